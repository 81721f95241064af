"""What chat templates are given."""

from __future__ import annotations

from afk_provider_local.conversation import chat_messages

from afkcli.plugin import Role, text_message


def test_questions_in_a_row_are_one_message_because_templates_refuse_two() -> None:
    said = [(Role.USER, "one"), (Role.USER, "two"), (Role.ASSISTANT, "a"), (Role.USER, "three")]
    messages = chat_messages([text_message(role, text) for role, text in said])
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "one\n\ntwo"),
        ("assistant", "a"),
        ("user", "three"),
    ]
