// Only for the definitions of their kinds, which objects in deploy/ are checked against.
module stellwerk.dev/conformance/others

go 1.26.0

require (
	github.com/prometheus-operator/prometheus-operator v0.85.0
	istio.io/api v1.32.0
)
