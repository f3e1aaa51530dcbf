package suites

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

// TestGatewayAPI runs the suite of the Gateway API with the flags of the command line.
func TestGatewayAPI(t *testing.T) { conformance.RunConformance(t) }
