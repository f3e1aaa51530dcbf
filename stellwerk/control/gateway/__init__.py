"""The own gateway: Gateway API objects to the routes, backends and certificates of each Gateway, and their statuses.

Pure. `kinds` are the objects, `world` all of them, `plan` what they amount to, `status` what they are told about it;
`control/envoy/route_mode` turns the plan of one Gateway into Envoy's configuration.
"""
