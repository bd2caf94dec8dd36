"""What the tests share: random operators, randomised modules, the comparison with the oracle, strategies."""
