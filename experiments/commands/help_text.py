"""The layout of `--help`: verbs by group, options by group, one worked example; and lists of words after one option."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

NAME_WIDTH = 12


class VerbCommand(TyperCommand):
    """A command whose help has groups of options and an example.

    Words after the option `spread` are further values of it: `--grid N=4 L=1,3` gives two, in the order typed.
    """

    spread = ""
    example = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words, with `spread` put before every word that follows one of its own."""
        if not self.spread:
            return super().parse_args(ctx, args)
        words: list[str] = []
        inside = False
        for word in args:
            is_one_more = inside and not word.startswith("-") and words[-1] != self.spread
            words += [self.spread, word] if is_one_more else [word]
            if word.startswith("-"):
                inside = word.partition("=")[0] == self.spread
        ctx.meta[self.spread] = inside
        return super().parse_args(ctx, words)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete another value of `spread` where the last word was one, else options."""
        if self.spread and ctx.meta.get(self.spread) and not incomplete.startswith("-"):
            (param,) = (param for param in self.params if self.spread in param.opts)
            return param.shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options under the headings of their groups, then those of every command."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                sections.setdefault("Arguments", []).append((str(param.metavar), record[1]))
            else:
                sections.setdefault(getattr(param, "rich_help_panel", None) or "Options", []).append(record)
        general = sections.pop("Options", [])
        for title, records in (*sections.items(), ("Options", general)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records, col_max=26)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example, which is never wrapped: it may be copied."""
        if self.example:
            formatter.write_paragraph()
            formatter.write(f"Example:\n  {ctx.find_root().info_name} {self.example}\n")


def command_class(*, spread: str, example: str) -> type[VerbCommand]:
    """Return the class of one verb's command."""
    return type("Command", (VerbCommand,), {"spread": spread, "example": example})


class VerbGroup(TyperGroup):
    """The program itself: its help lists verbs by group, each with its summary in one line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                summary = command.short_help or ""
                group = getattr(command, "rich_help_panel", None)
                sections.setdefault(group if isinstance(group, str) else "Commands", []).append((name, summary))
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(NAME_WIDTH), summary) for name, summary in records])
