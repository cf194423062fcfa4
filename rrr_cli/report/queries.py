"""The SQL behind every number of `rrr report`, as shown on the page: each statement runs in `rrr sql` too.

The statements are constants, so that no model's name or text can change a query. What a statement can't know (which
model is the first) is selected from its rows in Python.
"""

MINED = """\
select task, split, difficulty, model, count(distinct problem_id) as problems,
    count(distinct problem_id) filter (not success) as problems_failed,
    count(*) as tries, count(*) filter (not success) as tries_failed
from attempts where phase = 'first' group by all order by all"""

MINED_ERRORS = """\
select error_type, count(*) as n from failures group by all order by n desc, error_type"""

REPAIRS = """\
select reflector, phase, count(*) as retries, count(*) filter (success) as passed,
    avg(reflection_tokens) as mean_tokens
from repairs group by all order by all"""

RATES = """\
select model, count(*) as n, count(shared_success) as n_failures,
    count(*) filter (first_success) as first_try,
    count(*) filter (first_success or second_success) as second_try,
    count(*) filter (shared_success) as second_try_on_failures,
    count(*) filter (first_success or blind_success) as blind_second_try,
    count(*) filter (first_success or plain_success) as retry_without_reflection,
    any_value(temperature) as temperature, any_value(seed) as seed
from evaluations group by model order by model"""

BY_DIFFICULTY = RATES.replace("select model, count", "select model, task, difficulty, count").replace(
    "group by model order by model", "group by all order by all")

PAIRED = """\
with long as (
    unpivot (
        select model, problem_id, first_success as first_try,
            first_success or coalesce(second_success, false) as second_try,
            shared_success as second_try_on_failures,
            first_success or coalesce(blind_success, false) as blind_second_try,
            first_success or coalesce(plain_success, false) as retry_without_reflection
        from evaluations
    ) on first_try, second_try, second_try_on_failures, blind_second_try, retry_without_reflection
    into name measure value passed
)
select a.model as a, b.model as b, measure, count(*) as n,
    count(*) filter (b.passed and not a.passed) as won, count(*) filter (a.passed and not b.passed) as lost
from long as a join long as b using (problem_id, measure)
where a.model <> b.model group by all order by all"""

AGAINST_CONTROLS = """\
select model,
    count(*) filter (second_success and not blind_success) as blind_second_try_won,
    count(*) filter (blind_success and not second_success) as blind_second_try_lost,
    count(*) filter (second_success and not plain_success) as retry_without_reflection_won,
    count(*) filter (plain_success and not second_success) as retry_without_reflection_lost,
    any_value(temperature) as temperature
from evaluations group by model order by model"""

# From `arms`, the tries of each arm and problem up to the first pass (the first try is that of every arm): a row for
# each k, then reflecting against each control. A problem whose next try got no answer counts as not solved. Models
# whose server doesn't count tokens have no rows.
_EQUAL_TOKENS = """\
, uncounted as (
    select distinct model from arms where cost is null
), outcomes as (
    select model, arm, problem_id, max(number) as last, min(number) filter (success) as solved_at,
        list(cost order by number) as costs
    from arms anti join uncounted using (model) group by all
), outcome_at as (
    select *, coalesce(solved_at <= k, false) as solved
    from outcomes join (select unnest(range(1, (select max(last) from outcomes) + 1)) as k) on true
), curve as (
    select model, arm, k, count(*) as n, count(*) filter (solved) as solved, avg(list_sum(costs[1:k])) as tokens
    from outcome_at group by model, arm, k having k <= max(last)
), pairs as (
    select r.model, r.k as tries, r.tokens, c.arm as control,
        coalesce(min(c.k) filter (c.tokens >= r.tokens), max(c.k)) as control_tries
    from curve as r join curve as c using (model)
    where r.arm = 'reflect' and r.k >= 2 and c.arm <> 'reflect' group by all
)
select p.*, any_value(c.tokens) as control_tokens, count(*) as n, count(*) filter (a.solved) as solved,
    count(*) filter (b.solved) as control_solved, count(*) filter (a.solved and not b.solved) as won,
    count(*) filter (b.solved and not a.solved) as lost
from pairs as p
join curve as c on c.model = p.model and c.arm = p.control and c.k = p.control_tries
join outcome_at as a on a.model = p.model and a.arm = 'reflect' and a.k = p.tries
join outcome_at as b
    on b.model = p.model and b.arm = p.control and b.k = p.control_tries and b.problem_id = a.problem_id
group by p.model, p.tries, p.tokens, p.control, p.control_tries order by all"""

CURVES = """\
select model, arm, k as tries, n, unanswered, solved, tokens from compute_curves order by model, arm, k"""

AT_EQUAL_TOKENS = """\
with arms as (
    select *, tokens + case when reflection is null then 0 else reflection_tokens end as cost
    from tries where arm in ('reflect', 'plain', 'blind')
)""" + _EQUAL_TOKENS

# The same for retries after another model's reflection; the controls are the actor's own tries. Only rows whose actor
# is the first model mean something: the others retried the first model's failures, not their own.
CROSSED_AT_EQUAL_TOKENS = """\
with crossings as (
    select distinct reflector, model as actor from tries where arm = 'cross'
), arms as (
    select {'reflector': c.reflector, 'actor': c.actor} as model, replace(t.arm, 'cross', 'reflect') as arm,
        problem_id, number, success, tokens + case when reflection is null then 0 else reflection_tokens end as cost
    from crossings as c join tries as t on t.model = c.actor
    where arm in ('plain', 'blind') or (arm = 'reflect' and number = 1) or (arm = 'cross' and t.reflector = c.reflector)
)""" + _EQUAL_TOKENS

# Of the first model's failed first tries: who reflected, on this failure or (swapped) on another, who retried, and
# whether the retry passed.
CROSSED = """\
select model as reflector, model as actor, false as swapped, problem_id, shared_success as success
from evaluations where shared_success is not null
union all
select reflector, model as actor, arm = 'swapped' as swapped, problem_id, success
from later_tries where arm in ('cross', 'swapped')
order by all"""

ERRORS = """\
select model, 'first' as which, first_error as error_type, count(*) as n
from evaluations where first_error is not null group by all
union all
select model, 'second' as which, second_error as error_type, count(*) as n
from evaluations where second_error is not null group by all
order by all"""

REFLECTIONS = r"""with reflected as (
    select *, regexp_extract_all(reflection, '[^ \t\r\n]+') as words,
        max(reflection_tokens) over (partition by model) as most
    from evaluations where reflection is not null
), four as (
    select *, [words[i : i + 3] for i in range(1, len(words) - 2)] as grams from reflected
)
select model, count(*) as n, avg(reflection_tokens) as mean_tokens, median(reflection_tokens) as median_tokens,
    quantile_cont(reflection_tokens, 0.9) as p90_tokens,
    avg(1 - len(list_distinct(grams)) / len(grams)) filter (len(grams) > 0) as repetition,
    count(solves) as judged, count(*) filter (solves) as solving,
    count(*) filter (second_success) as passed, count(*) filter (second_success and solves) as passed_after_solving,
    max(reflection_tokens) as longest,
    count(*) filter (reflection_tokens = most) as at_longest
from four group by model order by model"""

MODELS = """\
select distinct model, model_path, model_fingerprint from evaluations order by all"""

STEPS = """\
select step, coalesce(objective, 'reflection') as objective, reward_mean, dead_groups, kl, reflection_length,
    retry_length, answer_length, clipped_reflections, clipped_tries
from steps order by step"""

KEPT_ASIDE = """\
select step, max(generated_tokens) as generated_tokens, count(*) as n, count(*) filter (first_success) as first_try,
    count(*) filter (first_success or second_success) as second_try, count(second_success) as retried,
    avg(tokens) as mean_tokens, count(solves) as judged, count(*) filter (solves) as solving
from validations group by step order by step"""

TRUNCATED_TRIES = """\
select phase, count(*) as n, count(*) filter (finish_reason = 'length') as truncated
from attempts group by phase order by phase"""

TRAINED_ON = """\
select count(*) as n, count(*) filter (reflection_finish = 'length') as truncated,
    count(*) filter (try_finish = 'length') as tries_truncated, count(*) filter (solves) as solving,
    count(*) filter (success is null) as unjudged
from rollouts"""

TRAINED_TEXTS = """\
select coalesce(bool_or(trained_tokens > 0 and reflection is not null), false) as reflection,
    coalesce(bool_or(trained_tokens > reflection_tokens and retry is not null), false) as retry,
    coalesce(bool_or(trained_tokens > 0 and answer is not null), false) as answer
from rollouts"""

FORGETTING = """\
select benchmark, model, count(*) as n, count(*) filter (score = 1) as passed, any_value(item_limit) as item_limit,
    any_value(shots) as shots, any_value(metric) as metric, count(*) filter (prompt_cut) as prompts_cut
from forgetting group by benchmark, model order by benchmark, model"""

FORGOTTEN = """\
select benchmark, a.model as a, b.model as b, count(*) as n,
    count(*) filter (b.score = 1 and a.score <> 1) as won, count(*) filter (a.score = 1 and b.score <> 1) as lost
from forgetting as a join forgetting as b using (benchmark, item_id)
where a.model <> b.model group by all order by all"""

# Galleries: the first four of each kind by problem id, which is a hash; none is picked by hand.

STORIES_PAIRED = """\
select a.model as before, b.model as after,
    case when b.shared_success then 'fixed' when a.shared_success then 'broken' else 'not fixed' end as kind,
    b.problem_id, b.difficulty, p.prompt[-1].content as problem, b.shared_attempt as failed,
    a.shared_reflection as reflection_before, a.shared_retry as retry_before, a.shared_success as success_before,
    b.shared_reflection as reflection, b.shared_retry as retry, b.shared_success as success
from evaluations as a join evaluations as b on a.problem_id = b.problem_id
left join problems as p on p.problem_id = b.problem_id
where a.model <> b.model and a.shared_success is not null and not (a.shared_success and b.shared_success)
qualify row_number() over (partition by a.model, b.model, kind order by b.problem_id) <= 4
order by before, after, kind, b.problem_id"""

STORIES_OF_ONE = """\
select e.model as after, case when e.second_success then 'fixed' else 'not fixed' end as kind, e.problem_id,
    e.difficulty, p.prompt[-1].content as problem, e.first as failed, e.reflection, e.second as retry,
    e.second_success as success
from evaluations as e left join problems as p on p.problem_id = e.problem_id
where e.second_success is not null
qualify row_number() over (partition by e.model, kind order by e.problem_id) <= 4
order by after, kind, e.problem_id"""

STORIES_OF_TRAINING = """\
select 'step ' || r.step as after, case when r.success then 'fixed' else 'not fixed' end as kind, r.problem_id,
    f.difficulty, f.problem, f.failed_text as failed, r.reflection, coalesce(r.retry, r.answer) as retry, r.success
from rollouts as r join failures as f using (attempt_id)
where r.step = (select max(step) from rollouts) and r.success is not null
    and r.conversation is null -- else it isn't about that failed attempt
qualify row_number() over (partition by r.success order by r.problem_id, r.sample_index) <= 4
order by kind, r.problem_id, r.sample_index"""

STORIES_OF_REPAIRS = """\
select reflector as after, case when success then 'fixed' else 'not fixed' end as kind, problem_id, difficulty,
    problem, failed_text as failed, reflection, retry_text as retry, success
from repairs where reflection is not null
qualify row_number() over (partition by success order by problem_id, reflection_id, retry_id) <= 4
order by kind, problem_id, reflection_id, retry_id"""
