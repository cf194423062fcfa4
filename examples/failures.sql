-- Which kinds of failure does reflection repair? One row an error type and level.
--   rrr sql --file examples/failures.sql
-- More to copy:
--   rrr sql "SELECT k, avg(pass_at_k) AS pass_at_k FROM pass_at GROUP BY k ORDER BY k"
--   rrr sql "SELECT reflection, retry_text FROM repairs WHERE success AND NOT solves LIMIT 3"
--   rrr sql "FROM grpo_health ORDER BY step DESC LIMIT 10"
--   rrr sql --run runs/a --run runs/b "SELECT run, error_type, count(*) FROM failures GROUP BY ALL ORDER BY ALL"
SELECT
    f.run, f.difficulty, f.error_type,
    count(DISTINCT f.attempt_id) AS failures,
    count(r.retry_id) AS retries,
    avg(r.success::INT) AS repaired,
    avg(r.reflection_tokens) AS reflection_tokens,
    any_value(f.attempt_id) AS example  -- rrr show ID
FROM failures AS f
LEFT JOIN repairs AS r ON r.run = f.run AND r.attempt_id = f.attempt_id
GROUP BY ALL
ORDER BY failures DESC;
