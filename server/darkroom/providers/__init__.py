"""What a provider module is written in, its credentials, and the client that sends requests.

A provider module needs to import only this package: everything in ``__all__`` is stable. It
declares a `Provider` with its operations and does nothing else; `docs/adding-a-provider.md` shows
how. The functions that read a provider's responses are in `darkroom.providers.reading`.
"""

from darkroom.core.errors import Code, ErrorBody, call_error, failure, read_error_body
from darkroom.core.foreign import is_name
from darkroom.core.json_types import JsonObject, JsonValue
from darkroom.core.names import nearest
from darkroom.providers import reading
from darkroom.providers.messages import (
    Acceptance,
    MissingError,
    Request,
    Response,
    State,
    UnreadableError,
    read_json,
)
from darkroom.providers.operations import (
    CHANGES,
    DESTROYS,
    LOCAL_READS,
    READS,
    STARTS,
    CallOperation,
    CheckOperation,
    FanOutOperation,
    Hints,
    JobOperation,
    Listing,
    Lookback,
    Operation,
    Quota,
    ResultSource,
    Secret,
    Source,
    StateSource,
)
from darkroom.providers.outward import outward_mistakes
from darkroom.providers.params import (
    MAX_WAIT_SECONDS,
    Address,
    AddressMark,
    CheckParams,
    JobParams,
    Params,
    StartParams,
    check_address,
)
from darkroom.providers.provider import (
    Allowance,
    Credential,
    Limits,
    Policy,
    PolicyVerdict,
    Provider,
    Rate,
    Suspension,
)
from darkroom.providers.settings import ProviderSettings, Section, Table
from darkroom.providers.values import Cost, Output, Progress, ShownStatus, Status, Unit

__all__ = [
    "CHANGES",
    "DESTROYS",
    "LOCAL_READS",
    "MAX_WAIT_SECONDS",
    "READS",
    "STARTS",
    "Acceptance",
    "Address",
    "AddressMark",
    "Allowance",
    "CallOperation",
    "CheckOperation",
    "CheckParams",
    "Code",
    "Cost",
    "Credential",
    "ErrorBody",
    "FanOutOperation",
    "Hints",
    "JobOperation",
    "JobParams",
    "JsonObject",
    "JsonValue",
    "Limits",
    "Listing",
    "Lookback",
    "MissingError",
    "Operation",
    "Output",
    "Params",
    "Policy",
    "PolicyVerdict",
    "Progress",
    "Provider",
    "ProviderSettings",
    "Quota",
    "Rate",
    "Request",
    "Response",
    "ResultSource",
    "Secret",
    "Section",
    "ShownStatus",
    "Source",
    "StartParams",
    "State",
    "StateSource",
    "Status",
    "Suspension",
    "Table",
    "Unit",
    "UnreadableError",
    "call_error",
    "check_address",
    "failure",
    "is_name",
    "nearest",
    "outward_mistakes",
    "read_error_body",
    "read_json",
    "reading",
]
