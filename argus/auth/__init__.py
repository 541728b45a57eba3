"""Who may do what: keys, the identities behind them, and the files they are kept in."""
