// Package suites compiles the published conformance suites into one test program,
// pinned by go.mod and go.sum, the way implementers are asked to take them.
package suites

import (
	"testing"

	"sigs.k8s.io/gateway-api-inference-extension/conformance"
)

// TestInferenceExtension runs the suite of the inference extension with the flags of the command line.
func TestInferenceExtension(t *testing.T) { conformance.RunConformance(t) }
