"""Lines of code per floor of the library; docstrings, comments and blank lines not counted.

.venv/bin/python .ci/count_code.py
"""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

LIBRARY = Path(__file__).parents[1] / "kolors_lab"
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(text: str) -> int:
    """How many lines of a module hold a token that is neither comment nor docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {n for token in tokens if token.type not in SILENT for n in range(token.start[0], token.end[0] + 1)}
    return len(lines - docstring_lines(ast.parse(text)))


def docstring_lines(tree: ast.Module) -> set[int]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [
        statement
        for node in ast.walk(tree)
        if isinstance(node, kinds)
        for statement in node.body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    ]  # fmt: skip
    return {line for text in texts for line in range(text.lineno, text.end_lineno + 1)}


if __name__ == "__main__":
    floors = Counter()
    for file in LIBRARY.rglob("*.py"):
        inside = file.relative_to(LIBRARY).parts
        floors[inside[0] if len(inside) > 1 else "(top)"] += code_lines(file.read_text(encoding="utf-8"))
    for floor, lines in floors.most_common():
        print(f"{floor:12} {lines:6}")
    print(f"{'all':12} {floors.total():6}")
