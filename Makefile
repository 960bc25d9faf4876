# `make` lists the targets. They use the environment at hand: install it once with `make install`.
.PHONY: help install check lint format types docs serve test lowest

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

install:  ## the project with what tests and documentation need, editable
	pip install -e ".[test,docs]" -c constraints.txt

check:  ## everything that continuous integration checks
	bash .ci/check

lint:  ## ruff: errors and format
	ruff check . && ruff format --check .

format:  ## ruff: mend what it can
	ruff check --fix . && ruff format .

types:  ## pyright
	pyright

docs:  ## the site, into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

serve:  ## the site while writing
	NO_MKDOCS_2_WARNING=1 mkdocs serve

test:  ## all tests
	pytest

lowest:  ## constraints with the lowest versions that pyproject.toml allows
	python .ci/lower_bounds.py
