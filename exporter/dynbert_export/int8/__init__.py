"""From an fp32 graph to an INT8 graph: smoothing, ranges, weights, and the operators that run as INT8."""
