-- What a completed image used was given back only by deleting it, or else its objects stayed readable at no cost.

CREATE OR REPLACE TRIGGER images_follow AFTER UPDATE OF state ON earmark._private_hold
    FOR EACH ROW WHEN (NEW.followed AND NEW.level = 0 AND NEW.state IN ('rolled_back', 'refunded') AND OLD.state <> NEW.state)
    EXECUTE FUNCTION earmark._private_follow_holds();
