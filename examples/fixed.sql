-- Three reflections that turned another model's failure into a success.
--   rrr sql --run runs/quickstart --file examples/fixed.sql
SELECT shared_attempt AS failed, shared_reflection AS reflection, shared_retry AS retry
FROM evaluations
WHERE model = 'trained' AND shared_success
ORDER BY problem_id
LIMIT 3
