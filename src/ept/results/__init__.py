"""From runs to tables: collecting with checks, intervals, and the forms that people read."""
