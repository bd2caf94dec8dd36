"""What a person runs and looks at: whole experiments with their statistics, figures and reports."""

__all__: list[str] = []
