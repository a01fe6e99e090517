-- It is told the requests now, not how many they are, and refuses items that a reservation does not have.
DROP FUNCTION IF EXISTS earmark._private_settle_answers(int, text, earmark._private_seen[]);
