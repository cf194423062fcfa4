"""The loop's own templates, which every task shares, and the chats built from them. A task's words are the task's own.

Reads and writes nothing. Sources: RRR = Reflect, Retry, Reward (arXiv 2505.24726); Re-ReST (arXiv 2406.01495).
"""

from __future__ import annotations

from collections.abc import Sequence

from rrr_cli.records import Message
from rrr_cli.thoughts import first_outside, parts

# Ours, in the form of RRR's Countdown wording (section 4.2): for a task whose `words` have no "reflect" or "retry".
REFLECT = (
    "You tried solving the problem and failed. Reflect on what went wrong and write a short explanation that will help "
    "you do better next time."
)
RETRY = "Please try to solve the problem again."
# Ours: the system turn that shows the tools where a model's own chat template doesn't.
TOOLS = (
    "These tools can be called:\n{tools}\n\n"
    'For each call write <tool_call>{{"name": "the tool", "arguments": {{"argument": value}}}}</tool_call>. '
    "If no tool fits, answer in plain words."
)
# Ours: used with --retry-context reflection, where the failed attempt itself is left out.
REFLECTION_ONLY = "Here is a reflection on an earlier failed attempt at this problem:\n{reflection}"
# Ours: the same on another problem, with grpo --reward-on other:K.
HINT = "Here is a reflection on a failed attempt at another problem of this kind:\n{reflection}"
# Ours, after Re-ReST (arXiv 2406.01495, section 3.2): reasoning and repaired output in one completion, in that order.
REPAIR = (
    "{feedback}\n\nReflect on what went wrong: write it between <reflection> and </reflection>. Then solve the problem "
    "again from the start, in the form that it asks for."
)
# Ours, as ReAct writes it: a thought of an earlier turn, where the chat template would drop it.
THOUGHT = "Thought: {thought}"
FAILED = "Your attempt failed."  # --feedback binary
GOLD = "{feedback}\n\nA right solution is:\n{gold}"  # --feedback gold

#: Those that a stage can show, by name: each stage's identity holds the ones that it does show.
TEMPLATES = {
    "tools": TOOLS,
    "reflection_only": REFLECTION_ONLY,
    "hint": HINT,
    "thought": THOUGHT,
    "repair": REPAIR,
    "failed": FAILED,
    "gold": GOLD,
}
TRY = ("tools", "thought")
RETRY_AFTER_REFLECTION = (*TRY, "reflection_only")
TRY_WITH_HINT = (*TRY, "hint")
REPAIRING = (*TRY, "repair", "failed", "gold")


def reflect_chat(prompt: Sequence[Message], failed: Sequence[Message], request: str) -> tuple[Message, ...]:
    """Problem, failed attempt, request to reflect. GRPO's prompt; the reflection is its completion (RRR section 3)."""
    return (*prompt, *failed, Message("user", request))


def with_feedback(request: str, verifier: str, feedback: str) -> str:
    """A request about a failed attempt. `feedback` "verifier": what the verifier says of it comes before the task's
    words; "binary" (RRR section 4): that it failed is all that is said."""
    return f"{verifier}\n\n{request}" if feedback == "verifier" and verifier else request


def hint_chat(prompt: Sequence[Message], reflection: str) -> tuple[Message, ...]:
    """A problem with a reflection on an attempt at another one."""
    return _appended(prompt, HINT.format(reflection=reflection))


def retry_chat(
    prompt: Sequence[Message], failed: Sequence[Message], reflection: str | None, reflect_request: str,
    retry_request: str, context: str = "full",
) -> tuple[Message, ...]:
    """The chat that asks for another try.

    `context` "full" keeps the failed attempt before the reflection; "reflection" shows the reflection alone (the paper
    doesn't say which it used). `reflection` None is the control: a request to try again, without having reflected.
    """
    if reflection is None:
        return tuple(prompt) if context == "reflection" else (*prompt, *failed, Message("user", retry_request))
    if context == "reflection":
        return _appended(prompt, REFLECTION_ONLY.format(reflection=reflection))
    asked = reflect_chat(prompt, failed, reflect_request)
    return (*asked, Message("assistant", reflection), Message("user", retry_request))


def _appended(prompt: Sequence[Message], text: str) -> tuple[Message, ...]:
    return (*prompt[:-1], Message(prompt[-1].role, f"{prompt[-1].content}\n\n{text}"))


def repair_chat(prompt: Sequence[Message], failed: Sequence[Message], feedback: str) -> tuple[Message, ...]:
    """The chat that asks a reflector for a repaired output (Re-ReST section 3.2)."""
    return (*prompt, *failed, Message("user", REPAIR.format(feedback=feedback)))


def split_repair(text: str) -> tuple[str | None, str]:
    """(reasoning, output): what stands up to the first </reflection> that isn't within a thought, without the thought
    before it, and the rest; without one all is the output."""
    end = first_outside(text, "</reflection>")
    if end is None:
        return None, text
    reasoning = parts(text[:end]).answer.replace("<reflection>", "", 1).strip()
    return reasoning, text[end + len("</reflection>"):].lstrip()


def thoughts_as_text(messages: Sequence[Message], keep: bool = True) -> tuple[Message, ...]:
    """The chat with the thoughts of the model's own turns as plain words, which no chat template drops; with `keep`
    False without them."""
    def plain(turn: str) -> str:
        thought, answer = parts(turn)
        if thought is None:
            return turn
        words = [THOUGHT.format(thought=thought)] if thought and keep else []
        return "\n\n".join([*words, answer.strip()]).strip()

    return tuple(Message(m.role, plain(m.content)) if m.role == "assistant" else m for m in messages)
