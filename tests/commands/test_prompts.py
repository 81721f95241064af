"""`afk run -p NAME` and `afk prompts`, as a user meets them."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any, Literal

import pytest

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Finished, Shell

MODEL = ("-m", "gpt-5.2-mini", "--no-memory")


def write(shell: Shell, name: str, text: str | bytes) -> Path:
    """Write a prompt of the user."""
    folder = shell.home / "afk" / "config" / "prompts"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{name}.md"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def project(shell: Shell, name: str, text: str, config: str = "") -> Path:
    """Write a prompt of the project in the working folder."""
    (shell.folder / "afk.toml").write_text(config)
    (shell.folder / "prompts").mkdir(exist_ok=True)
    path = shell.folder / "prompts" / f"{name}.md"
    path.write_text(text)
    return path


def asked(shell: Shell, *arguments: str, stdin: bytes | None = None) -> str:
    """Return the message that the model got."""
    done = shell.in_process("run", *MODEL, *arguments, stdin=stdin)
    assert done.code == 0, done.err
    return done.out.removesuffix("\n").partition(": ")[2]


def refused(shell: Shell, *arguments: str) -> str:
    """Return the only line that a run says which is refused before it asks a model."""
    done = shell.in_process("run", *MODEL, *arguments)
    assert (done.code, done.out) == (2, ""), done
    (line,) = done.err.splitlines()
    return line


class TestMessage:
    @pytest.mark.parametrize(
        ("text", "words", "piped", "sent"),
        [
            ("Review.", ("me",), None, "Review.\n\nme"),
            ("Review.", (), b"diff\n", "Review.\n\ndiff"),
            ("Review.", ("me",), b"diff\n", "Review.\n\nme\n\ndiff"),
            ("Review.", (), None, "Review."),
            ("Say {{ message }}!", ("hi",), None, "Say hi!"),
            ("Say {{ message }}!", ("hi",), b"there", "Say hi\n\nthere!"),
            ("Say {{ message }}!", (), b"there", "Say there!"),
            ("Say {{ input }}!", ("hi",), None, "Say hi!"),
            ("{{input}}|{{message}}|{{ input }}", ("hi",), b"there", "there|hi|there"),
            ("Say {{ message }}!", ("-",), b"there", "Say there!"),
            ("", ("alone",), None, "alone"),
        ],
    )
    def test_goes_where_the_text_names_it_or_follows(
        self, keyed: Shell, text: str, words: tuple[str, ...], piped: bytes | None, sent: str
    ) -> None:
        write(keyed, "p", text)

        assert asked(keyed, "-p", "p", *words, stdin=piped) == sent

    def test_that_a_text_names_and_that_is_not_given_is_asked_for(self, keyed: Shell) -> None:
        write(keyed, "p", "Say {{ message }}!")
        write(keyed, "both", "{{ message }} and {{ input }}")

        assert "the prompt 'p' needs a message; add it: afk run -p p \"MESSAGE\"" in refused(keyed, "-p", "p")
        assert "needs an input; pipe it in" in refused(keyed, "-p", "both", "hi")

    def test_may_have_a_default(self, keyed: Shell) -> None:
        write(keyed, "p", "---\nvariables: {message: nothing}\n---\nSay {{ message }}!")

        assert asked(keyed, "-p", "p") == "Say nothing!"
        assert asked(keyed, "-p", "p", "hi") == "Say hi!"

    def test_of_nothing_at_all_is_no_message(self, keyed: Shell) -> None:
        write(keyed, "p", "---\ninstructions: Be brief.\n---\n")

        assert "no message was given" in refused(keyed, "-p", "p")


class TestVariables:
    def test_are_filled_from_the_option_or_the_default(self, keyed: Shell) -> None:
        write(keyed, "p", "---\nvariables: {lang: en}\n---\nIn {{ lang }} and {{lang}} to {{ who }}")

        assert asked(keyed, "-p", "p", "--var", "who=Ada") == "In en and en to Ada"
        assert asked(keyed, "-p", "p", "--var", "who=", "--var", "lang=a=b") == "In a=b and a=b to "

    @pytest.mark.parametrize("value", ["{{ b }}", "{{ message }}", "\\{{ b }}", "\\1 \\g<0>", "$b {b} %s", "{{"])
    def test_a_value_is_not_filled_again(self, keyed: Shell, value: str) -> None:
        write(keyed, "p", "---\nvariables: {b: WRONG}\n---\n{{ a }} {{ b }}")

        assert asked(keyed, "-p", "p", "--var", f"a={value}") == f"{value} WRONG"
        assert asked(keyed, "-p", "p", "--var", "a=x", f"say {value}") == f"x WRONG\n\nsay {value}"

    @pytest.mark.parametrize(
        ("text", "sent"),
        [
            ("\\{{ x }}", "{{ x }}"),
            ("\\\\{{ x }}", "\\{{ x }}"),
            ("a {{ b", "a {{ b"),
            ("{{}} {{ }}", "{{}} {{ }}"),
            ("{{1,2},{3,4}}", "{{1,2},{3,4}}"),
            ("{a} } {", "{a} } {"),
            ("${{ n }}", "$5"),
        ],
    )
    def test_braces_that_are_text(self, keyed: Shell, text: str, sent: str) -> None:
        write(keyed, "p", text)

        assert asked(keyed, "-p", "p", *(("--var", "n=5") if "n }}" in text else ())) == sent

    @pytest.mark.parametrize("written", ["{{ a.b }}", "{{ a | upper }}", "{{ 1 }}", '{{ "{{" }}', "{{ a b }}"])
    def test_what_is_not_a_name_is_refused_with_its_line(self, keyed: Shell, written: str) -> None:
        write(keyed, "p", f"---\nmodel: x\n---\n\nfirst\n{written}")

        assert "p.md, line 6: {{" in refused(keyed, "-p", "p")

    def test_without_a_value_are_all_named_with_their_options(self, keyed: Shell) -> None:
        write(keyed, "p", "---\nvariables: {c: 1}\n---\n{{ a }} {{ b }} {{ c }}")

        said = "the prompt 'p' needs values for 'a' and 'b'; add --var a=VALUE --var b=VALUE"
        assert said in refused(keyed, "-p", "p")
        assert "needs a value for 'b'; add --var b=VALUE" in refused(keyed, "-p", "p", "--var", "a=1")

    def test_a_slip_in_the_text_names_the_variable_that_is_near(self, keyed: Shell) -> None:
        write(keyed, "p", "---\nvariables: {lang: en}\n---\n{{ lagn }}")

        assert "p.md mean 'lang' in line 4?" in refused(keyed, "-p", "p")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("lagn=x", "has no variable 'lagn'; did you mean 'lang'?"),
            ("Lang=x", "has no variable 'Lang'; did you mean 'lang'?"),
            ("other=x", "has no variable 'other'; its variables: lang"),
            ("message=x", "is filled from MESSAGE or stdin, not by --var"),
            ("lang", "'lang' is not NAME=VALUE, as in lang=de"),
            ("=x", "'=x' is not NAME=VALUE"),
        ],
    )
    def test_that_are_not_known_are_refused(self, keyed: Shell, given: str, said: str) -> None:
        write(keyed, "p", "{{ lang }}")

        done = keyed.in_process("run", *MODEL, "-p", "p", "--var", given)
        assert done.code == 2
        assert said in done.err

    def test_need_a_prompt(self, keyed: Shell) -> None:
        assert "--var fills a variable of a prompt" in refused(keyed, "--var", "a=b", "hi")

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ("no", "no"),
            ("Yes", "Yes"),
            ("off", "off"),
            ("true", "true"),
            ("007", "007"),
            ("0x1F", "0x1F"),
            ("1_000", "1_000"),
            ("1.10", "1.10"),
            ("12:30:45", "12:30:45"),
            ("2024-01-01", "2024-01-01"),
            (".inf", ".inf"),
            ("'no'", "no"),
            ('"a\\tb"', "a\tb"),
            ('""', ""),
            ("null and void", "null and void"),
        ],
    )
    @pytest.mark.parametrize("form", ["{{v: {}}}", "{{v: {{default: {}}}}}"])
    def test_a_default_is_what_was_written(self, keyed: Shell, written: str, value: str, form: str) -> None:
        write(keyed, "p", f"---\nvariables: {form.format(written)}\n---\n<{{{{ v }}}}>")

        assert asked(keyed, "-p", "p") == f"<{value}>"

    @pytest.mark.parametrize("written", ["", "~", "null", "{}", "{required: true}", "{description: what}"])
    def test_without_a_default_need_a_value(self, keyed: Shell, written: str) -> None:
        write(keyed, "p", f"---\nvariables:\n  v: {written}\n---\n{{{{ v }}}}")

        assert "needs a value for 'v'" in refused(keyed, "-p", "p")

    def test_that_are_not_required_are_empty(self, keyed: Shell) -> None:
        write(keyed, "p", "---\nvariables:\n  v: {required: false}\n---\n<{{ v }}>")

        assert asked(keyed, "-p", "p") == "<>"

    def test_have_names_in_any_script(self, keyed: Shell) -> None:
        write(keyed, "p", "{{ größe }} {{ 语言 }} {{ two-words }}")

        given = ("--var", "gro\u0308ße=1", "--var", "语言=2", "--var", "two-words=3")
        assert asked(keyed, "-p", "p", *given) == "1 2 3"


class TestFrontMatter:
    @pytest.mark.parametrize(
        ("text", "sent"),
        [
            ("Just text", "Just text"),
            ("Text\n---\nmore\n---\nend", "Text\n---\nmore\n---\nend"),
            ("---\ndescription: d\n---\nText\n---\nmore", "Text\n---\nmore"),
            ("---\n---\n---\nrule", "---\nrule"),
            ("---\n# a comment\n---\nText", "Text"),
            ("----\nText", "----\nText"),
            ("--- title\nText", "--- title\nText"),
            ("\n\n---\ndescription: d\n---\nText", "Text"),
            ("---  \ndescription: d\n---\t\nText\n\n\n", "Text"),
            ("---\r\ndescription: d\r\n---\r\nOne\r\nTwo\r\n", "One\nTwo"),
            (b"\xef\xbb\xbf---\ndescription: d\n---\nText", "Text"),
            ("---\ndescription: d\n---\nText".encode("utf-16"), "Text"),
            ("---\ninstructions: |\n  a\n  ---\n  b\n---\nText", "Text"),
        ],
    )
    def test_is_what_is_between_the_first_two_fences(self, keyed: Shell, text: str | bytes, sent: str) -> None:
        write(keyed, "p", text)

        assert asked(keyed, "-p", "p") == sent

    @pytest.mark.parametrize(
        ("front", "said"),
        [
            ("a: 1\nmodel: x", "line 2: unknown key 'a'; known: description, model"),
            ("modle: x", "line 2: unknown key 'modle'; did you mean 'model'?"),
            ("system: x", "did you mean 'instructions'?"),
            ("temperature: 1", "did you mean 'options'?"),
            ("limits: {max_steps: 1}", "unknown key 'limits'"),
            ("approvals: {mode: allow}", "unknown key 'approvals'"),
            ("extra: {a: 1}", "unknown key 'extra'"),
            ("model: a\nmodel: b", "line 3: the key 'model' is there twice"),
            ("options:\n  seed: 1\n  seed: 2", "line 4: the key 'seed' is there twice"),
            ("\tmodel: a", "line 2: not valid YAML: a line is indented by a tab; use spaces"),
            ("options:\n\tseed: 1", "a line is indented by a tab"),
            ("description: a: b", "line 2: not valid YAML: put quotes around a text that has a colon"),
            ("description: {{ lang }}", "line 2: put quotes around a text that begins with { or ["),
            ("description: *bold*", "put quotes around a text that begins with * or &"),
            ("description: @me", "put quotes around a text that begins with it"),
            ("description: 'a", "not valid YAML"),
            ("model: !!python/object/apply:os.system [id]", "is not supported"),
            ("model: !env KEY", "the tag !env is not supported"),
            ("<<: {model: a}", "<< is not supported"),
            ("- model", "line 2: the front matter is not a list of keys"),
            ("just words", "the front matter is not a list of keys"),
            ("model: a\n...\nagent: b", "not valid YAML"),
            ("model: [a]", "'model' must be a text"),
            ("tools: {a: b}", "'tools' must be a list of names"),
            ("options: [a]", "'options' must have keys of its own"),
            ("options: {temprature: 1}", "did you mean 'temperature'?"),
            ("options: {temperature: 3}", "'options.temperature' must be a number from 0 to 2 (got 3)"),
            ("options: {seed: 007}", "'options.seed' must be an integer (got '007')"),
            ("variables: {a: [b]}", "'variables.a' must be its default"),
            ("variables: {a: {defualt: b}}", "did you mean 'default'?"),
            ("variables: {a: {default: b, required: true}}", "leave one out"),
            ("variables: {a: {required: no}}", "true or false for 'required'"),
            ("variables: {a b: c}", "a b is not the name of a variable"),
            ("variables: [a.b]", "a.b is not the name of a variable"),
            ("model: \x1b[31m", "not valid YAML"),
            (f"model: {'[' * 100}{']' * 100}", "nested too deeply"),
        ],
    )
    def test_that_is_wrong_is_refused_with_what_and_where(self, keyed: Shell, front: str, said: str) -> None:
        write(keyed, "p", f"---\n{front}\n---\nText")

        assert said in refused(keyed, "-p", "p", "hi")

    def test_without_an_end_is_refused(self, keyed: Shell) -> None:
        write(keyed, "p", "---\nmodel: x\n\nText")

        assert "p.md, line 1: the front matter has no end; end it with a line ---" in refused(keyed, "-p", "p")

    def test_anchors_are_taken_and_their_growth_is_bounded(self, keyed: Shell) -> None:
        write(keyed, "p", "---\nvariables: {a: &x no, b: *x}\n---\n{{ a }} {{ b }}")
        nested = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        nested += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
        write(keyed, "laughs", "---\n{}\n---\nText".format("\n".join(nested)))
        write(keyed, "itself", "---\nvariables: &a {b: *a}\n---\nText")

        assert asked(keyed, "-p", "p") == "no no"
        assert "aliases written out, have more than 100000 characters" in refused(keyed, "-p", "laughs")
        assert "*a names no anchor" in refused(keyed, "-p", "itself")

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"---\nmodel: \xff\n---\n", "line 2: not UTF-8"),
            (b"a\0b", "it has NUL bytes, so it is not text"),
            (b"x" * 1_000_001, "it is longer than 1000000 bytes"),
        ],
    )
    def test_a_file_that_is_not_text_is_refused(self, keyed: Shell, data: bytes, said: str) -> None:
        write(keyed, "p", data)

        assert said in refused(keyed, "-p", "p")


FULL = """---
description: A review
model: gpt-5.2-mini
instructions: Answer in {{ lang }}.
options: {temperature: 0.5, reasoning_effort: off}
tools: [files.read]
schema: answer.json
variables:
  lang: en
---
Review.
"""


class TestWhatItSets:
    def sent(self, shell: Shell, *arguments: str) -> dict[str, Any]:
        done = shell.in_process("run", "--dry-run", *arguments)
        assert done.code == 0, done.err
        body: dict[str, Any] = json.loads(done.out)["body"]
        return body

    @pytest.fixture
    def full(self, keyed: Shell) -> Shell:
        path = write(keyed, "full", FULL)
        (path.parent / "answer.json").write_text('{"type": "object", "properties": {"ok": {"type": "boolean"}}}')
        (path.parent.parent / "config.toml").write_text('[tools.files]\nroots = ["/"]\n')
        return keyed

    def test_is_sent(self, full: Shell) -> None:
        body = self.sent(full, "-p", "full", "--var", "lang=de", "hi")

        assert body["model"] == "gpt-5.2-mini"
        assert body["temperature"] == 0.5
        assert body["reasoning_effort"] == "off"
        assert body["messages"][0]["content"].startswith("Answer in de.")
        assert body["messages"][1]["content"] == "Review.\n\nhi"
        assert [tool["function"]["name"] for tool in body["tools"]] == ["files__read"]
        assert '"ok":{"type":"boolean"}' in body["messages"][0]["content"]

    def test_gives_way_to_the_options_of_the_command_line(self, full: Shell) -> None:
        given = ("-m", "gpt-5.2", "-s", "Be kind.", "-o", "temperature=1", "-o", "reasoning_effort=null")
        body = self.sent(full, "-p", "full", *given, "--schema", '{"type": "array"}', "hi")

        assert (body["model"], body["temperature"]) == ("gpt-5.2", 1)
        assert "reasoning_effort" not in body
        assert body["messages"][0]["content"].startswith("Be kind.")
        assert '{"type":"array"}' in body["messages"][0]["content"]

    def test_comes_before_the_variable_of_the_environment(self, full: Shell) -> None:
        full.env["AFK_MODEL"] = "gpt-5.2"

        assert self.sent(full, "-p", "full", "hi")["model"] == "gpt-5.2-mini"

    def test_an_agent_of_the_config(self, keyed: Shell) -> None:
        path = write(keyed, "p", "---\nagent: critic\n---\nReview.")
        (path.parent.parent / "config.toml").write_text(
            '[agents.critic]\nmodel = "gpt-5.2-mini"\ninstructions = "Be strict."\n'
        )

        body = self.sent(keyed, "-p", "p")
        assert body["messages"][0]["content"] == "Be strict."

    def test_a_schema_in_the_front_matter_keeps_words_as_they_are(self, keyed: Shell) -> None:
        write(keyed, "p", "---\nschema:\n  type: object\n  properties:\n    a: {enum: [no, off, 1]}\n---\nReview.")

        body = self.sent(keyed, "-p", "p", "-m", "gpt-5.2-mini")
        assert "['no', 'off', 1]" in str(body["response_format"])

    def test_a_tool_of_a_prompt_needs_a_decision_as_any_other(self, keyed: Shell, server: ModelServer) -> None:
        write(keyed, "p", "---\ntools: [shell.run]\n---\nRun it.")
        call = ScriptedCall(name="shell__run", arguments={"argv": ["touch", "made"]})
        server.script(Step(tool_calls=[call]), Step(text="done"))

        done = keyed.afk("run", *MODEL, "-p", "p", "--json", "--approvals", "deny")
        assert [event["decision"] for event in done.events if event["type"] == "approval_resolved"] == ["deny"]
        assert not (keyed.folder / "made").exists()


class TestFinding:
    def test_a_name_that_is_not_there_gets_the_near_one(self, keyed: Shell) -> None:
        write(keyed, "review", "Review.")

        assert "there is no prompt 'reveiw'; did you mean 'review'?" in refused(keyed, "-p", "reveiw")
        assert "there is no prompt 'other'; `afk prompts` lists them" in refused(keyed, "-p", "other")

    def test_the_first_one_is_offered_where_there_are_none(self, keyed: Shell) -> None:
        assert "there is no prompt 'review'; `afk prompts new review` writes one" in refused(keyed, "-p", "review")

    def test_a_path_with_a_slash_is_a_file(self, keyed: Shell) -> None:
        (keyed.folder / "mine.md").write_text("Mine {{ a }}.")
        (keyed.folder / "mine.md").chmod(0o666)

        assert asked(keyed, "-p", "./mine.md", "--var", "a=1") == "Mine 1."
        assert asked(keyed, "-p", str(keyed.folder / "mine.md"), "--var", "a=1") == "Mine 1."
        for typed in ("mine.md", "mine"):
            assert "for the file mine.md here, type ./mine.md" in refused(keyed, "-p", typed)
        assert "there is no prompt file ./none.md" in refused(keyed, "-p", "./none.md")
        assert "not a regular file" in refused(keyed, "-p", "./")

    def test_the_suffix_may_be_typed(self, keyed: Shell) -> None:
        write(keyed, "review", "Review.")

        assert asked(keyed, "-p", "review.md") == "Review."

    def test_a_file_of_the_user_that_others_can_write_is_refused(self, keyed: Shell) -> None:
        write(keyed, "p", "Text").chmod(0o666)

        assert "others can write it; mend it with: chmod go-w" in refused(keyed, "-p", "p")

    def test_an_earlier_question_is_asked_without_a_prompt(self, keyed: Shell) -> None:
        write(keyed, "p", "Text")

        for option in ("--retry", "--edit"):
            done = keyed.in_process("run", option, "-t", "t", "-p", "p")
            assert done.code == 2
            assert "leave --prompt out" in done.err


class TestProject:
    def test_counts_when_the_project_is_trusted_and_until_the_file_changes(self, keyed: Shell) -> None:
        path = project(keyed, "p", "Text")
        assert "p.md is not trusted; see `afk trust`" in refused(keyed, "-p", "p")

        shown = keyed.in_process("trust")
        assert 'prompts.p.text = "Text"' in shown.err
        assert asked(keyed, "-p", "p") == "Text"
        assert keyed.in_process("trust", "--check").code == 0

        path.write_text("Other text")
        assert "has changed since it was trusted" in refused(keyed, "-p", "p")
        assert keyed.in_process("trust", "--check").code == 2
        assert "(changed)" in keyed.in_process("trust").err
        assert asked(keyed, "-p", "p") == "Other text"

    def test_counts_in_the_folders_below(self, keyed: Shell) -> None:
        project(keyed, "p", "Text")
        keyed.in_process("trust")
        keyed.folder = keyed.folder / "below" / "this"
        keyed.folder.mkdir(parents=True)

        assert asked(keyed, "-p", "p") == "Text"

    def test_a_file_that_others_can_write_is_refused(self, keyed: Shell) -> None:
        path = project(keyed, "p", "Text")
        keyed.in_process("trust")
        path.chmod(0o666)

        assert "others can write it; chmod go-w it" in refused(keyed, "-p", "p")

    def test_what_is_not_trusted_reaches_a_terminal_safely(self, keyed: Shell) -> None:
        project(keyed, "p", '---\ndescription: "\\e[2Jgone\\u202e"\n---\n\x1b[31mText\u202e')

        for command in (("trust",), ("prompts",)):
            done = keyed.in_process(*command)
            assert "\x1b" not in done.err + done.out
            assert "\u202e" not in done.err + done.out

    def test_what_a_prompt_gives_a_model_is_shown_as_a_risk(self, keyed: Shell) -> None:
        project(keyed, "p", "---\ntools: [shell.run]\nmodel: other/x\n---\nText")

        lines = keyed.in_process("trust").err.splitlines()
        assert lines.index('    prompts.p.tools = ["shell.run"]') > lines.index("  lets a model use tools:")
        assert lines.index('    prompts.p.model = "other/x"') > lines.index(
            "  decides where keys and conversations go:"
        )

    def test_a_changed_prompt_leaves_the_config_and_other_prompts_trusted(self, keyed: Shell) -> None:
        path = project(keyed, "p", "Text", config='[models]\nfast = "openai/gpt-5.2-mini"\n')
        project(keyed, "q", "Other", config='[models]\nfast = "openai/gpt-5.2-mini"\n')
        keyed.in_process("trust")
        path.write_text("Changed")

        assert asked(keyed, "-p", "q") == "Other"
        assert keyed.in_process("run", "-m", "fast", "--no-memory", "hi").err == ""

    def test_a_changed_config_ends_the_trust_in_its_prompts(self, keyed: Shell) -> None:
        project(keyed, "p", "Text")
        keyed.in_process("trust")
        project(keyed, "p", "Text", config='[models]\na = "b/c"\n')

        done = keyed.in_process("run", *MODEL, "-p", "p")
        assert done.code == 2
        assert "or its project has; see `afk trust`" in done.err

    def test_the_schema_of_a_prompt_is_trusted_with_it(self, keyed: Shell) -> None:
        project(keyed, "p", "---\nschema: s.json\n---\nText")
        schema = keyed.folder / "prompts" / "s.json"
        schema.write_text('{"type": "object"}')
        assert f"bound: {schema}" in keyed.in_process("trust").err
        assert keyed.in_process("run", "--dry-run", "-m", "gpt-5.2-mini", "-p", "p").code == 0

        schema.write_text('{"type": "array"}')
        assert "has changed since it was trusted" in refused(keyed, "-p", "p")

    def test_one_that_is_not_trusted_hides_no_prompt_of_the_user(self, keyed: Shell) -> None:
        write(keyed, "p", "Mine")
        project(keyed, "p", "Theirs")

        done = keyed.in_process("run", *MODEL, "-p", "p")
        assert done.out == "reply 1: Mine\n"
        assert "is not trusted; see `afk trust`; using yours" in done.err
        keyed.in_process("trust")
        assert asked(keyed, "-p", "p") == "Theirs"

    def test_without_a_config_the_path_is_offered(self, keyed: Shell) -> None:
        project(keyed, "p", "Text")
        (keyed.folder / "afk.toml").unlink()

        assert "type ./prompts/p.md" in refused(keyed, "-p", "p")

    def test_trust_is_taken_back_with_the_project(self, keyed: Shell) -> None:
        project(keyed, "p", "Text")
        keyed.in_process("trust")
        keyed.in_process("trust", "--remove")

        assert "is not trusted" in refused(keyed, "-p", "p")

    def test_a_markdown_file_that_is_no_prompt_stops_nothing(self, keyed: Shell) -> None:
        project(keyed, "README", "---\ntitle: About\n---\nText")
        project(keyed, "p", "Text")
        shown = keyed.in_process("trust")

        assert shown.code == 0
        assert "prompts.README.problem" in shown.err
        assert asked(keyed, "-p", "p") == "Text"
        assert "unknown key 'title'" in refused(keyed, "-p", "README")


class TestCommands:
    def rows(self, done: Finished) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in done.events}

    def test_lists_what_each_is_and_needs(self, keyed: Shell) -> None:
        write(keyed, "a", "---\ndescription: First one\nvariables: {lang: en}\n---\n{{ who }} {{ lang }} {{ message }}")
        write(keyed, "broken", "---\nmodle: x\n---\n")
        project(keyed, "theirs", "Text")

        lines = keyed.in_process("prompts").out.splitlines()
        assert [" ".join(line.split())[:40] for line in lines if line.startswith("a ")] == [
            "a user who lang=en First one",
        ]
        assert keyed.in_process("prompts", "list").out.splitlines() == lines
        rows = self.rows(keyed.in_process("prompts", "list", "--json"))
        assert rows["a"]["variables"]["lang"] == {"default": "en", "description": ""}
        assert "unknown key 'modle'" in rows["broken"]["problem"]
        assert rows["theirs"]["from"] == "project"
        assert "is not trusted" in rows["theirs"]["problem"]

    def test_an_empty_list_says_where_prompts_belong(self, shell: Shell) -> None:
        done = shell.in_process("prompts")

        assert (done.code, done.out) == (0, "")
        assert "`afk prompts new NAME` writes one" in done.err

    def test_shows_the_file_or_the_filled_text(self, shell: Shell) -> None:
        write(shell, "p", "---\nvariables: {a: 1}\n---\n{{ a }} {{ b }} \\{{ {{ message }}\n")

        assert shell.in_process("prompts", "show", "p").out.startswith("---\nvariables")
        assert shell.in_process("prompts", "show", "p", "--var", "b=2").out == "1 2 {{ {{ message }}\n"
        filled = shell.in_process("prompts", "show", "p", "--filled")
        assert filled.out == "1 {{ b }} {{ {{ message }}\n"
        assert "without a value: b, message" in filled.err
        (row,) = shell.in_process("prompts", "show", "p", "--json").events
        assert row["text"] == "{{ a }} {{ b }} \\{{ {{ message }}"
        assert "did you mean 'p'" not in shell.in_process("prompts", "show", "other").err

    def test_writes_one_that_works_and_overwrites_none(self, keyed: Shell) -> None:
        done = keyed.in_process("prompts", "new", "review")
        path = Path(done.out.strip())

        assert path.stat().st_mode & 0o777 == 0o600
        assert asked(keyed, "-p", "review", "Hello") == "Review this text, and answer in the language en.\n\nHello"
        path.write_text("mine")
        again = keyed.in_process("prompts", "new", "review")
        assert again.code == 2
        assert "exists already; it was not changed" in again.err
        assert path.read_text() == "mine"

    @pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "-", "~x", "a\nb", "x" * 201])
    def test_a_name_that_leads_elsewhere_is_refused(self, shell: Shell, name: str) -> None:
        done = shell.in_process("prompts", "new", "--", name)

        assert done.code == 2
        assert not list(shell.home.rglob("*.md"))

    def test_a_new_one_of_a_project_needs_one(self, shell: Shell) -> None:
        assert "there is no afk.toml here" in shell.in_process("prompts", "new", "p", "--project").err
        (shell.folder / "afk.toml").touch()
        done = shell.in_process("prompts", "new", "p", "--project")
        assert done.out == f"{shell.folder / 'prompts' / 'p.md'}\n"
        assert "then trust the project again with `afk trust`" in done.err

    def test_edits_the_file_and_names_what_is_wrong_with_it(self, shell: Shell) -> None:
        path = write(shell, "p", "Text")
        good, bad = shell.folder / "good", shell.folder / "bad"
        for file, text in ((good, "Other"), (bad, "---\\nmodle: x\\n---\\n")):
            file.write_text(f"#!/bin/sh\nprintf -- '{text}' > \"$1\"\n")
            file.chmod(0o755)

        assert "was not changed" in shell.afk("prompts", "edit", "p", EDITOR="true").err
        assert "was changed" in shell.afk("prompts", "edit", "p", EDITOR=str(good)).err
        assert path.read_text() == "Other"
        done = shell.afk("prompts", "edit", "p", EDITOR=str(bad))
        assert done.code == 2
        assert "line 2: unknown key 'modle'" in done.err
        assert "`afk prompts new other` writes one" in shell.afk("prompts", "edit", "other").err

    def test_names_are_completed_with_their_descriptions(self, shell: Shell) -> None:
        write(shell, "review", "---\ndescription: Reads a diff\n---\nText")
        write(shell, "rest", "Text")
        words = {"_AFK_COMPLETE": "zsh_complete", "COMP_WORDS": "afk run -p re", "COMP_CWORD": "3"}

        assert shell.afk(**words).out.split("\n")[:6] == ["plain", "rest", "_", "plain", "review", "Reads a diff"]

    def test_variables_are_completed_with_what_they_are_without(self, shell: Shell) -> None:
        write(
            shell,
            "review",
            "---\nvariables:\n  lang: en\n  style: {description: How it sounds}\n---\n{{ message }} {{ x }}",
        )
        for line, wanted in (
            ("afk run -p review --var ", ["lang=", "style=", "x="]),
            ("afk run -p review --var lang=de --var ", ["style=", "x="]),
            ("afk run -p review --var l", ["lang="]),
            ("afk prompts show review --var s", ["style="]),
            ("afk run -p nowhere --var ", []),
            ("afk run --var ", []),
        ):
            words = {"_AFK_COMPLETE": "zsh_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
            said = shell.afk(**words).out.split("\n")
            assert sorted(word for word in said if word.endswith("=")) == wanted, line
            assert ("en" in said, "How it sounds" in said) == ("lang=" in wanted, "style=" in wanted)


class TestNames:
    def test_with_blanks_are_quoted_in_the_commands_to_type(self, shell: Shell) -> None:
        done = shell.afk("prompts", "new", "my prompt")
        assert "`afk prompts edit 'my prompt'`, try it with `afk run -p 'my prompt'`" in done.err
        assert "(afk prompts edit 'my prompt')" in shell.afk("prompts", "new", "my prompt").err
        assert "`afk prompts new 'no such one'` writes one" in shell.afk("prompts", "edit", "no such one").err

    @pytest.mark.parametrize(("written", "typed"), [("NFD", "NFC"), ("NFC", "NFD")])
    def test_with_accents_are_found_however_the_letters_are_composed(
        self, shell: Shell, written: Literal["NFC", "NFD"], typed: Literal["NFC", "NFD"]
    ) -> None:
        name = "Gr\u00fc\u00dfe caf\u00e9"
        write(shell, unicodedata.normalize(written, name), "Hello")
        done = shell.afk("prompts", "show", unicodedata.normalize(typed, name))
        assert (done.code, done.out) == (0, "Hello\n")
        edited = shell.afk("prompts", "edit", unicodedata.normalize(typed, name), EDITOR="true")
        assert "was not changed" in edited.err

    def test_two_prompts_are_refused(self, shell: Shell) -> None:
        write(shell, "one", "One")
        write(shell, "two", "Two")
        done = shell.afk("run", "-p", "one", "-p", "two", "Hello")
        assert done.code == 2
        assert "--prompt" in done.err
