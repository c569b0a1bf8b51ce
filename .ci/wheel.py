"""Puts kolors_course at the front of a wheel: of two `sources`, hatch takes the shorter, and would put it too deep."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """hatch's name for it."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Not for an editable wheel, for that finds kolors_course where it lies."""
        if version == "standard":
            build_data["force_include"]["notebooks/kolors_course"] = "kolors_course"
