-- Tells which kind of fault a hold has.
DROP FUNCTION IF EXISTS earmark._private_unexplained_holds(text);
