"""The fields of every operation's answer, as Structs.

``dict[str, Any]`` stands for a JSON object, because msgspec cannot express the recursive type of a JSON value.
"""
