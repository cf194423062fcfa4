-- The views of `rrr sql`. Plain CREATE VIEW statements over the tables: read them, copy them, change them in a query.
-- Every table and view has a `run` column, the name of the run's folder, so that several runs can be asked at once.
-- Ids are content hashes and two runs can share them: a join is always on `run` too.

-- First tries that failed, each with its problem.
CREATE VIEW failures AS
SELECT
    a.run, a.problem_id, a.attempt_id, a.task, a.split, a.difficulty, a.model, a.sample_index,
    p.prompt[-1].content AS problem,          -- the last turn that the model was shown
    a.transcript[-1].content AS failed_text,  -- what it wrote last
    a.answer, a.error_type, a.feedback, a.finish_reason
FROM attempts AS a
LEFT JOIN problems AS p ON p.run = a.run AND p.problem_id = a.problem_id
WHERE a.phase = 'first' AND NOT a.success;

-- problem ⋈ failed attempt ⋈ reflection ⋈ retry: one row a retry. `reflection` is null for a retry without one.
CREATE VIEW repairs AS
SELECT
    f.run, f.problem_id, f.attempt_id, t.reflection_id, t.attempt_id AS retry_id,
    f.task, f.split, f.difficulty, f.model,
    coalesce(r.reflector, CASE t.phase WHEN 'repair' THEN t.model END) AS reflector, t.phase, t.sample_index,
    f.problem, f.failed_text, f.feedback, r.text AS reflection, t.transcript[-1].content AS retry_text,
    t.success, t.score, t.error_type, t.feedback AS retry_feedback,
    r.tokens AS reflection_tokens, t.completion_tokens AS retry_tokens, r.solves
FROM failures AS f
JOIN attempts AS t ON t.run = f.run AND t.parent_id = f.attempt_id
LEFT JOIN reflections AS r ON r.run = t.run AND r.reflection_id = t.reflection_id;

-- What train-reflector can pair: a failed and a passing first try of one problem (source own), or a failed one and its
-- successful repair (source repair). It takes at most --pairs of a problem and source.
CREATE VIEW reflector_pairs AS
SELECT
    f.run, f.problem_id, 'own' AS source, f.attempt_id AS failed_id, g.attempt_id AS passed_id, f.model,
    f.failed_text, f.feedback, g.transcript[-1].content AS passed_text
FROM failures AS f
JOIN attempts AS g ON g.run = f.run AND g.problem_id = f.problem_id AND g.phase = 'first' AND g.success
UNION ALL
SELECT
    f.run, f.problem_id, 'repair', f.attempt_id, g.attempt_id, g.model,
    f.failed_text, f.feedback, g.transcript[-1].content
FROM failures AS f
JOIN attempts AS g ON g.run = f.run AND g.parent_id = f.attempt_id AND g.phase = 'repair' AND g.success;

-- What self-train can learn: passing first tries (source own: D_M of Re-ReST), successful repairs (source repair: D_R),
-- and passing retries after a reflection (source retry). `reflector` repaired or reflected: choose with --repairs-by.
CREATE VIEW agent_texts AS
SELECT
    a.run, a.problem_id, a.attempt_id, CASE a.phase WHEN 'first' THEN 'own' ELSE a.phase END AS source, a.model,
    coalesce(r.reflector, CASE a.phase WHEN 'repair' THEN a.model END) AS reflector, a.difficulty, a.sample_index,
    a.score, a.transcript[-1].content AS text
FROM attempts AS a
LEFT JOIN reflections AS r ON r.run = a.run AND r.reflection_id = a.reflection_id
WHERE a.success AND (a.phase = 'first' OR (a.phase = 'repair' OR r.reflector IS NOT NULL) AND EXISTS (
    FROM attempts AS f WHERE f.run = a.run AND f.attempt_id = a.parent_id));

-- First tries by problem: n, passes, and the unbiased pass@k (Chen et al. 2021, arXiv 2107.03374, equation 1)
-- 1 - C(n - passes, k) / C(n, k), written as a product, for k = 1, 2, 4, … up to n: one row a problem and k.
-- Biased where mining stopped early: with `--stop-at-failure` a problem's tries end at its failures, so `pass_rate`
-- is too low. The rule that was used stands in attempts/provenance-mine-failures.json.
CREATE VIEW pass_at AS
WITH tries AS (
    SELECT
        run, problem_id, task, split, difficulty, model,
        count(*) AS n, count(*) FILTER (WHERE success) AS passes
    FROM attempts
    WHERE phase = 'first'
    GROUP BY ALL
)
SELECT
    *, passes / n AS pass_rate,
    1 - coalesce(list_product([1 - k / i FOR i IN range(n - passes + 1, n + 1)]), 1) AS pass_at_k
FROM tries, (SELECT 2 ** i AS k FROM range(20) AS powers(i))
WHERE k <= n;

-- How long each model's reflections are, how many hit the token limit, how many hold the reference answer.
CREATE VIEW reflection_lengths AS
SELECT
    run, reflector, count(*) AS n,
    avg(tokens) AS mean_tokens, median(tokens) AS median_tokens, quantile_cont(tokens, 0.9) AS p90_tokens,
    avg((finish_reason = 'length')::INT) AS truncated, avg(solves::INT) AS solving
FROM reflections
GROUP BY ALL;

-- GRPO, step by step. Dead groups (all rewards equal) give no gradient; `retries` (or answers, as the objective is) and
-- `passed` are counted from the rollouts; `tokens_so_far` puts runs with other objectives beside each other fairly.
CREATE VIEW grpo_health AS
WITH judged AS (
    SELECT
        run, step, count(*) AS retries, count(*) FILTER (WHERE success) AS passed,
        avg(solves::INT) AS solving
    FROM rollouts
    GROUP BY ALL
)
SELECT
    s.run, s.step, j.retries, j.passed, s.reward_mean, s.reward_std, s.dead_groups, s.kl, s.entropy,
    s.reflection_length, s.retry_length, s.clipped_reflections, j.solving, s.grad_norm, s.learning_rate, s.seconds,
    s.objective, s.answer_length, s.clipped_tries, s.generated_tokens,
    (sum(s.generated_tokens) OVER (PARTITION BY s.run ORDER BY s.step))::BIGINT AS tokens_so_far
FROM steps AS s
LEFT JOIN judged AS j ON j.run = s.run AND j.step = s.step;

-- The held-out curve of a training with --eval-every: shares of the problems kept aside that the policy solved after each
-- tested step, by its first try and within two; the tokens that it wrote for a problem, and those of training until then.
CREATE VIEW validation_curve AS
SELECT
    run, step, count(*) AS n, avg(first_success::INT) AS first_try,
    avg((first_success OR coalesce(second_success, false))::INT) AS second_try, avg(solves::INT) AS solving,
    avg(tokens) AS mean_tokens, any_value(generated_tokens) AS generated_tokens
FROM validations
GROUP BY run, step
ORDER BY run, step;

-- Every try of an evaluation, one row a try, and the reflection before it. Each arm begins with the model's first try
-- and ends at its first pass: reflect, plain (no reflections), blind (independent samples; none at temperature 0), and
-- cross (eval --cross: the first model's failed try, reflected on by `reflector` and retried by `model`) and swapped (the
-- same with the reflection on another failure).
CREATE VIEW tries AS
SELECT
    e.run, e.model, e.problem_id, e.task, e.difficulty, arm, 1 AS number, e.first_success AS success,
    e.first_error AS error_type, e.first_tokens AS tokens, NULL AS reflector, NULL AS reflection,
    NULL AS reflection_tokens, NULL AS solves, e.first AS text
FROM evaluations AS e, (SELECT unnest(['reflect', 'plain', 'blind']) AS arm)
WHERE arm <> 'blind' OR e.temperature > 0
UNION ALL
SELECT
    run, model, problem_id, task, difficulty, 'reflect', 2, second_success, second_error, second_tokens, model,
    reflection, reflection_tokens, solves, second
FROM evaluations
WHERE second IS NOT NULL
UNION ALL
SELECT
    run, model, problem_id, task, difficulty, 'plain', 2, plain_success, NULL, plain_tokens, NULL, NULL, NULL, NULL,
    plain
FROM evaluations
WHERE plain IS NOT NULL
UNION ALL
SELECT
    run, model, problem_id, task, difficulty, 'blind', 2, blind_success, NULL, blind_tokens, NULL, NULL, NULL, NULL,
    blind
FROM evaluations
WHERE blind IS NOT NULL
UNION ALL
SELECT
    run, model, problem_id, task, difficulty, arm, number, success, error_type, tokens, reflector, reflection,
    reflection_tokens, solves, text
FROM later_tries;

-- Success against tokens: of each model and arm the share of problems solved within k tries, and the mean tokens that a
-- problem costs if its tries stop at the first pass (reflections count; prompts don't). The `curves` of eval --json,
-- which adds exact intervals from n and solved. `unanswered` problems lack one of their k tries, because a server refused
-- it or eval isn't done; they count as not solved. No rows where a server counts no tokens.
CREATE VIEW compute_curves AS
WITH spent AS (
    SELECT *, tokens + CASE WHEN reflection IS NULL THEN 0 ELSE reflection_tokens END AS cost
    FROM tries
    WHERE arm IN ('reflect', 'plain', 'blind')
),
uncounted AS (SELECT DISTINCT run, model FROM spent WHERE cost IS NULL),
outcomes AS (
    SELECT
        run, model, arm, problem_id, max(number) AS last, bool_or(success) AS passed,
        min(number) FILTER (success) AS solved_at, arg_max(tokens, number) = 0 AS no_room,
        list(cost ORDER BY number) AS costs
    FROM spent
    ANTI JOIN uncounted USING (run, model)
    GROUP BY ALL
),
longest AS (SELECT run, model, arm, unnest(range(1, max(last) + 1)) AS k FROM outcomes GROUP BY run, model, arm)
SELECT
    run, model, arm, k, count(*) AS n, count(*) FILTER (solved_at <= k) AS solved, solved / n AS share,
    avg(list_sum(costs[1:k])) AS tokens, count(*) FILTER (NOT passed AND NOT no_room AND last < k) AS unanswered
FROM outcomes JOIN longest USING (run, model, arm)
GROUP BY run, model, arm, k;

-- Items of a benchmark that one model answered and another didn't: `from forgotten where knew = 'base'`.
CREATE VIEW forgotten AS
SELECT
    a.run, a.benchmark, a.task, a.item_id, a.item_index, a.model AS knew, b.model AS forgot, a.metric, a.item_limit,
    a.text AS right_text, b.text AS wrong_text
FROM forgetting AS a
JOIN forgetting AS b ON b.run = a.run AND b.item_id = a.item_id
WHERE a.score = 1 AND b.score = 0;
