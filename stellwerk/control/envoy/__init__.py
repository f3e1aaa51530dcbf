"""Envoy's configuration, as plain documents: pure functions of the Catalog and the settings.

`resources.py` puts the files together; `edge/envoy.py` writes them where Envoy watches. docs/envoy.md says why each
part is there.
"""
