"""The pure core: order of facts, fold, links, consent, derive. No SQL, clock or network."""
