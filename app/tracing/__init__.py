"""What a request does, as spans for the operator's own collector; `otel` alone knows OpenTelemetry."""
