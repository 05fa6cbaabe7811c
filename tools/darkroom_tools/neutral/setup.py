"""The neutral tool that says which credentials are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.catalogue import Missing, Result, Tool, completed
from darkroom.providers import LOCAL_READS, Params

if TYPE_CHECKING:
    from darkroom.catalogue import Engine, JsonObject, JsonValue, Person


async def get_setup(engine: Engine, params: Params, person: Person) -> Result:
    """Return for every provider the variables that it needs, and what is wrong with them."""
    del params, person
    from darkroom_tools import CATALOGUE  # noqa: PLC0415 -- it holds this tool

    known = engine.providers
    others = (p for p in completed(CATALOGUE).providers if p.name not in known)
    entries: list[JsonValue] = []
    lines = ["No provider has a credential yet. Set one of these and start the server again:"]
    for provider in (*known.values(), *others):
        missing = [
            found
            for credential in provider.credentials
            if isinstance(found := engine.credentials.look(credential), Missing)
        ]
        names: list[JsonValue] = [credential.variable for credential in provider.credentials]
        reasons: list[JsonValue] = [found.reason for found in missing]
        entries.append(
            {
                "provider": provider.name,
                "variables": names,
                "problems": reasons,
                "documentation": provider.documentation,
            }
        )
        lines.append(f"{provider.title}: {'; '.join(found.reason for found in missing)}")
    lines.append("To try everything without a key: darkroom serve --sandbox")
    fields: JsonObject = {"providers": entries, "without_a_key": "darkroom serve --sandbox"}
    return Result(structured=fields, text="\n".join(lines))


GET_SETUP = Tool(
    name="get_setup",
    title="Get setup",
    description="Say which environment variables the providers need.",
    params=Params,
    hints=LOCAL_READS,
    run=get_setup,
    listed=lambda any_provider: not any_provider,
)
