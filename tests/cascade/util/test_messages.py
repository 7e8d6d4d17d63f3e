"""What commands print of an error."""

import pytest

from cascade.util.messages import error_line, error_text


def os_error(path: str) -> OSError:
    """What the operating system says of a file that cannot be read."""
    try:
        open(path).close()
    except OSError as error:
        return error
    raise AssertionError(path)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (os_error("/nowhere/answers.jsonl"), "/nowhere/answers.jsonl: No such file or directory"),
        (os_error("/"), "/: Is a directory"),
        (OSError("no address was given"), "no address was given"),
        (ValueError("one\n  two"), "one\n  two"),
    ],
)
def test_errors_in_words(error: Exception, text: str) -> None:
    assert error_text(error) == text
    assert error_line(error) == text.replace("\n  ", " ")
