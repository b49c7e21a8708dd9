"""What every module in Python needs of the contract."""

import contextlib
import functools

from componentize_py_types import Err
from wit_world.imports import log, params
from wit_world.imports.captures import Capture
from wit_world.imports.log import Field, Level


def logged(function):
    """To the host an exception is the module's end, and no more. Say first what it was, in the log."""

    @functools.wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except BaseException as error:
            # An answer of the contract is no accident.
            if not (isinstance(error, Err) and type(error.value).__module__.startswith("wit_world.exports.")):
                log.log(Level.ERROR, f"{type(error).__name__}: {error}", [Field("at", place(error))])
            raise

    return wrapper


def place(error: BaseException) -> str:
    """Where it was raised, as `app.py:4711`."""
    at = error.__traceback__
    while at.tb_next:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}"


@contextlib.contextmanager
def failing_with(own):
    """What the host answers to a call fails the module too, as an error of its own: which one must be said, as in
    `with failing_with(gadget.Error_Output): output.emit(document, [capture])`."""
    try:
        yield
    except Err as answer:
        raise Err(own(answer.value)) from None


def parameters() -> dict:
    """The parameters of this run. One that has a default is always there."""
    return {param.name: param.value.value for param in params.all()}


def title(capture: Capture) -> str:
    """The shortest text that tells a person which container is meant."""
    container = capture.container()
    name = container.name or container.id
    pod = container.pod
    return f"{pod.namespace}/{pod.name}/{name}" if pod else name
