"""C, C++ and CUDA code in a canonical form: its tokens, without comments and white space.

White space counts where it does in the language: it ends a token, a line break ends a preprocessor line, and
`#define F(x)` is not `#define F (x)`. Literals stay as they are.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
    (?P<gap> (?: \s | \\\r?\n | /\*.*?\*/ | //(?:\\\r?\n|[^\n])* )+ )
  | (?P<raw> (?:u8|[uUL])?R"(?P<fence>[^()\\\s]{0,16})\(.*?\)(?P=fence)" )
  | (?P<text> (?:u8|[uUL])?(?: "(?:\\\r?\n|\\.|[^"\\\n])*" | '(?:\\\r?\n|\\.|[^'\\\n])+' ) )
  | (?P<number> \.?[0-9] (?: [eEpP][+-] | '[0-9A-Za-z_] | [0-9A-Za-z_.] )* )
  | (?P<word> [^\W\d]\w* )
  | (?P<sign> <<<|>>> | %:%: | <=> | \.\.\. | ->\*
      | [<>]{2}= | << | >> | -> | \+\+ | -- | && | \|\| | :: | \#\# | \.\* | [-+*/%&|^!=<>]= | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_SPLICE = re.compile(r"\\\r?\n")
_COMMENT = re.compile(r"/\*.*?\*/|//(?:\\\r?\n|[^\n])*", re.DOTALL)
_INCLUDE = re.compile(r"[ \t]*(<[^>\n]+>|\"[^\"\n]+\")")


def tokens(source: str) -> list[str]:
    """Return the tokens of a file.

    Args:
        source: the file's text.

    Returns:
        The tokens in their order. A preprocessor line begins with its `#` and ends with a token "\\n"; a `(` that
        makes a macro take arguments is the token "(call"; an included file is one token with its quotes or brackets.
    """
    result: list[str] = []
    directive: list[str] | None = None  # the tokens of the preprocessor line that has not ended
    position, line_start = 0, True
    while position < len(source):
        match = _TOKEN.match(source, position)
        assert match, source[position : position + 20]
        position = match.end()
        text = match[0]
        if match.lastgroup == "gap":
            if _breaks_line(text):
                result += [*directive, "\n"] if directive else []
                directive, line_start = None, True
            continue
        if match.lastgroup == "text":
            text = _SPLICE.sub("", text)
        if directive is None and text == "#" and line_start:
            directive = [text]
        elif directive is None:
            result.append(text)
        else:
            takes_arguments = directive == ["#", "define"] and source.startswith("(", position)
            directive += [text, "(call"] if takes_arguments else [text]
            position += takes_arguments
        if directive in (["#", "include"], ["#", "include_next"]) and (included := _INCLUDE.match(source, position)):
            directive.append(included[1])
            position = included.end()
        line_start = False
    return [*result, *directive, "\n"] if directive else result


def _breaks_line(gap: str) -> bool:
    """Whether a gap holds the end of a line, which one in a comment or after a backslash is not."""
    return "\n" in _SPLICE.sub("", _COMMENT.sub("", gap))
