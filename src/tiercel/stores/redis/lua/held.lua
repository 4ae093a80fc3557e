-- What is held, and by which cuts.
-- KEYS: control.
return promises(KEYS[1])
