"""What every module in Python needs of the contract."""

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
        except Err:  # An answer of the contract.
            raise
        except Exception as error:
            place = error.__traceback__
            while place.tb_next:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
            log.log(Level.ERROR, f"{type(error).__name__}: {error}", [Field("at", where)])
            raise

    return wrapper


def parameters() -> dict:
    """The parameters of this run. One that has a default is always there."""
    return {param.name: param.value.value for param in params.all()}


def title(capture: Capture) -> str:
    """The shortest text that tells a person which container is meant."""
    container = capture.container()
    name = container.name or container.id
    pod = container.pod
    return f"{pod.namespace}/{pod.name}/{name}" if pod else name
