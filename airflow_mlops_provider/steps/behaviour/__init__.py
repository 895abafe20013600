"""Behavioural tests: does a model act as it should when its inputs change?

Every kind of test is a metamorphic relation (Segura et al., *A Survey on Metamorphic Testing*,
2016; Ribeiro et al., *CheckList*, 2020): rows, changes of them, and what has to hold between the
answers. The story in order: ``declared`` holds the kinds, ``suite`` reads them, ``sampling`` gives
the rows, ``transformations`` and ``relations`` are the words of a test, ``plans`` spells each kind
in them, ``asking`` asks the model, ``engine`` compares, ``box`` searches where there are no rows,
``served`` gives the answers of others. ``check`` is what an operator does, and ``page`` shows it.
"""
