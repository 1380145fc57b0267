"""The verbs of ``document-service`` beyond serving: tenants and the operator's tools."""
