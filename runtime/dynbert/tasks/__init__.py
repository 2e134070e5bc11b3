"""Text in, answer out: one module a task. None of them knows of profiles or sessions; see ``base.TaskContext``."""
