# frozen_string_literal: true

# What only some of the series have: nothing yet.
