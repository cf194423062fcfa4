"""Every template that a model sees, verbatim where a paper gives it, and the chats built from them.

Sources: RRR = Reflect, Retry, Reward (arXiv 2505.24726); TinyZero = the public code whose Countdown data RRR uses;
Re-ReST (arXiv 2406.01495).
`TEMPLATES` is hashed into the configuration of each table, so a changed wording is never mixed with an old one.
"""

from __future__ import annotations

from collections.abc import Sequence

from rrr_cli.records import Message, content_id

# TinyZero's Countdown prompt, verbatim.
COUNTDOWN = (
    "Using the numbers {numbers}, create an equation that equals {target}. You can use basic arithmetic operations "
    "(+, -, *, /) and each number can only be used once. Show your work in <think> </think> tags. And return the final "
    "answer in <answer> </answer> tags, for example <answer> (1 + 2) / 3 </answer>."
)
# RRR, section 4.2 (Countdown), verbatim.
COUNTDOWN_REFLECT = (
    "You tried solving the problem and got the wrong answer. Reflect on what went wrong and write a short explanation "
    "that will help you do better next time."
)
# Ours: the paper doesn't publish its retry wording. The same words ask for a retry with and without a reflection,
# so that the control differs from the method by the reflection alone.
COUNTDOWN_RETRY = (
    "Please try to solve the problem again. Return the final answer in <answer> </answer> tags."
)
# RRR, section 4.1 (function calling), as we recall it: not checked word for word.
FUNCTION_CALLING_REFLECT = (
    "You tried performing the task, but failed in generating the correct tool call. Reflect on what went wrong and "
    "write a short explanation that will help you do better next time."
)
# Ours.
FUNCTION_CALLING_RETRY = "Please try to perform the task again, with the correct tool calls."
# Ours; commands, room and task in the words of ALFWorld 0.4.
HOUSEHOLD = (
    "Interact with a household to solve a task. In each turn write one command, on a line that begins with > . You "
    "have {turns} turns. The commands are: go to (receptacle), open (receptacle), close (receptacle), take (object) "
    "from (receptacle), move (object) to (receptacle), use (object), heat (object) with (receptacle), cool (object) "
    "with (receptacle), clean (object) with (receptacle), examine (something), inventory, look.\n\n{room}\n\n"
    "Your task is to: {task}"
)
HOUSEHOLD_REFLECT = (
    "You tried to solve the task and failed. Reflect on what went wrong and write a short explanation that will help "
    "you do better next time."
)
HOUSEHOLD_RETRY = "Please try to solve the task again, from the start."
# Ours: the system turn that shows the tools where a model's own chat template doesn't.
TOOLS = (
    "These tools can be called:\n{tools}\n\n"
    'For each call write <tool_call>{{"name": "the tool", "arguments": {{"argument": value}}}}</tool_call>. '
    "If no tool fits, answer in plain words."
)
# Ours, after ReAct's (arXiv 2210.03629, appendix C): its three actions, for a chat and a local corpus.
HOTPOTQA = (
    "Answer the question by steps. A step is a thought and then one action, which is one of these:\n"
    "Action: Search[title] shows the first sentences of the page with that title, or of the page that fits best.\n"
    "Action: Lookup[words] shows the next sentence of that page that holds the words.\n"
    "Action: Finish[answer] gives the answer in as few words as possible and ends it.\n"
    "You have {turns} steps.\n\nQuestion: {question}"
)
HOTPOTQA_OBSERVATION = "Observation: {told}"
# ReAct's words (the titles are shown without quotes), but for the last two.
HOTPOTQA_NOT_FOUND = "Could not find [{query}]. Similar: [{similar}]."
HOTPOTQA_RESULT = "(Result {number} / {count}) {sentence}"
HOTPOTQA_NO_MORE = "No more results."
HOTPOTQA_NO_PAGE = "There is no page to look at yet. Search first."
HOTPOTQA_INVALID = "Invalid action. Valid actions are Search[title], Lookup[words] and Finish[answer]."
# Ours, in the form of RRR's.
HOTPOTQA_REFLECT = (
    "You tried answering the question and failed. Reflect on what went wrong and write a short explanation that will "
    "help you do better next time."
)
HOTPOTQA_RETRY = "Please try to answer the question again, from the first step."
# Ours: the language of the visual programs, whole and for the easy level. As in VisProg the picture isn't shown.
VISUAL_PROGRAMS = """Answer the question about a picture with a program. You don't see the picture; the program does.
A program is lines that set a name; the last one sets answer. These functions are all there is:
find("dog"): the objects of that name; find("object"): all of them; find("scene"): the picture itself
filter(x, "red"): those of x that are so (a name, a color, left, right, top, bottom); reject(x, "red"): the others
subjects(x, "on"): what is on one of x; objects(x, "wearing"): what one of x is wearing
like(x, "color"): other objects of the same color as x
exists(x): yes or no; count(x): a number; more(n, m): is n more than m
and(a, b), or(a, b), not(a): of yes and no
query(x, "color"): the color of x, or its "name", "material" and so on
choose(x, "red", "blue"): which of the two x is
relation(x, y, "on", "under"): which of the two x is to y
same(x, y, "color"): have all of x and y the same color; common(x, y): what they share, such as color
For example:
<program>
kites = filter(find("kite"), "old")
answer = count(kites)
</program>

Question: {question}"""
VISUAL_PROGRAMS_EASY = (
    "Answer with a program of find , filter , reject , exists , count , query , choose , for example "
    '<program> answer = count(filter(find("kite"), "old")) </program> .\nQuestion: {question}'
)
VISUAL_PROGRAMS_REFLECT = (
    "You tried to answer the question with a program, and it failed. Reflect on what went wrong and write a short "
    "explanation that will help you do better next time."
)
VISUAL_PROGRAMS_RETRY = "Please try again. Put the program between <program> and </program>."
# Ours, after VPGen (arXiv 2305.15328), which writes objects and boxes as text; the form of the lines is ours.
LAYOUT = (
    "Plan this picture: {caption}\nGive each object a line: its name in the singular and its box (x, y, w, h), in "
    "hundredths of the picture: x from the left and y from the top to the box's corner, its width and its height. Draw "
    "nothing else. For example:\n<layout>\nhat (10, 20, 30, 40)\n</layout>"
)
LAYOUT_EASY = "Plan: {caption}\nFor example <layout> hat (10, 20, 30, 40) </layout>"
LAYOUT_REFLECT = (
    "You tried to plan the picture, and the plan failed. Reflect on what went wrong and write a short explanation that "
    "will help you do better next time."
)
LAYOUT_RETRY = "Please plan the picture again. Put the boxes between <layout> and </layout>."
# MBPP (arXiv 2108.07732, section 3), as we recall it: not checked word for word. The last line is ours.
MBPP = (
    "You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:\n\n{tests}"
    "\n\nWrite the code in a ```python block."
)
# Ours: the same for the easy level, short enough for a tiny model.
MBPP_EASY = "{text} Your code should pass these tests:\n\n{tests}"
# Ours, in the form of RRR's.
MBPP_REFLECT = (
    "You tried to write the code, but it doesn't pass the tests. Reflect on what went wrong and write a short "
    "explanation that will help you do better next time."
)
MBPP_RETRY = "Please write the code again, in a ```python block."
# Ours: used with --retry-context reflection, where the failed attempt itself is left out.
REFLECTION_ONLY = "Here is a reflection on an earlier failed attempt at this problem:\n{reflection}"
# Ours, after Re-ReST (arXiv 2406.01495, section 3.2): reasoning and repaired output in one completion, in that order.
REPAIR = (
    "{feedback}\n\nReflect on what went wrong: write it between <reflection> and </reflection>. Then solve the problem "
    "again from the start, in the form that it asks for."
)
FAILED = "Your attempt failed."  # --feedback binary
GOLD = "{feedback}\n\nA right solution is:\n{gold}"  # --feedback gold

TEMPLATES = {
    "countdown": COUNTDOWN,
    "countdown_reflect": COUNTDOWN_REFLECT,
    "countdown_retry": COUNTDOWN_RETRY,
    "function_calling_reflect": FUNCTION_CALLING_REFLECT,
    "function_calling_retry": FUNCTION_CALLING_RETRY,
    "household": HOUSEHOLD,
    "household_reflect": HOUSEHOLD_REFLECT,
    "household_retry": HOUSEHOLD_RETRY,
    "tools": TOOLS,
    "hotpotqa": HOTPOTQA,
    "hotpotqa_observation": HOTPOTQA_OBSERVATION,
    "hotpotqa_not_found": HOTPOTQA_NOT_FOUND,
    "hotpotqa_result": HOTPOTQA_RESULT,
    "hotpotqa_no_more": HOTPOTQA_NO_MORE,
    "hotpotqa_no_page": HOTPOTQA_NO_PAGE,
    "hotpotqa_invalid": HOTPOTQA_INVALID,
    "hotpotqa_reflect": HOTPOTQA_REFLECT,
    "hotpotqa_retry": HOTPOTQA_RETRY,
    "visual_programs": VISUAL_PROGRAMS,
    "visual_programs_easy": VISUAL_PROGRAMS_EASY,
    "visual_programs_reflect": VISUAL_PROGRAMS_REFLECT,
    "visual_programs_retry": VISUAL_PROGRAMS_RETRY,
    "layout": LAYOUT,
    "layout_easy": LAYOUT_EASY,
    "layout_reflect": LAYOUT_REFLECT,
    "layout_retry": LAYOUT_RETRY,
    "mbpp": MBPP,
    "mbpp_easy": MBPP_EASY,
    "mbpp_reflect": MBPP_REFLECT,
    "mbpp_retry": MBPP_RETRY,
    "reflection_only": REFLECTION_ONLY,
    "repair": REPAIR,
    "failed": FAILED,
    "gold": GOLD,
}


def templates_fingerprint() -> str:
    """A hash of every template."""
    return content_id(TEMPLATES)


def reflect_chat(prompt: Sequence[Message], failed: Sequence[Message], request: str) -> tuple[Message, ...]:
    """Problem, failed attempt, request to reflect. GRPO's prompt; the reflection is its completion (RRR section 3)."""
    return (*prompt, *failed, Message("user", request))


def retry_chat(
    prompt: Sequence[Message], failed: Sequence[Message], reflection: str | None, reflect_request: str,
    retry_request: str, context: str = "full",
) -> tuple[Message, ...]:
    """The chat that asks for another try.

    `context` "full" keeps the failed attempt before the reflection; "reflection" shows the reflection alone (the paper
    doesn't say which it used). `reflection` None is the control: told to try again, without having reflected.
    """
    if reflection is None:
        return tuple(prompt) if context == "reflection" else (*prompt, *failed, Message("user", retry_request))
    if context == "reflection":
        told = REFLECTION_ONLY.format(reflection=reflection)
        return (*prompt[:-1], Message(prompt[-1].role, f"{prompt[-1].content}\n\n{told}"))
    asked = reflect_chat(prompt, failed, reflect_request)
    return (*asked, Message("assistant", reflection), Message("user", retry_request))


def repair_chat(prompt: Sequence[Message], failed: Sequence[Message], feedback: str) -> tuple[Message, ...]:
    """The chat that asks a reflector for a repaired output (Re-ReST section 3.2)."""
    return (*prompt, *failed, Message("user", REPAIR.format(feedback=feedback)))


def split_repair(text: str) -> tuple[str | None, str]:
    """(reasoning, output): what stands up to the first </reflection>, and the rest; without one all is the output."""
    reasoning, end, output = text.partition("</reflection>")
    if not end:
        return None, text
    return reasoning.replace("<reflection>", "", 1).strip(), output.lstrip()
