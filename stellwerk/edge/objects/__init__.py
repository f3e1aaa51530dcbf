"""Where the objects come from when there is no cluster: files, directories, flags and DNS names."""

from stellwerk.edge.objects.source import ObjectsInvalid, ObjectSource, Pace, Status

__all__ = ["ObjectSource", "ObjectsInvalid", "Pace", "Status"]
