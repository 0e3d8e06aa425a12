"""Words that stand in the place of a credential, or are what a variable about one holds: never hidden, for everybody uses them."""

from __future__ import annotations

import re

COMMON = re.compile(
    r"access|account|active|address|always|amount|anonymous|answer|answers|api_key|apikey|balance|bearer|because|before"
    r"|between|billing|bridge|business|cached|cancel|cancelled|change|changeme|charge|client|common|company|complete|config"
    r"|confirm|contact|correct|country|credential|credentials|credit|current|custom|customer|customers|database|december"
    r"|default|delivery|details|development|device|digest|disable|disabled|discount|document|documents|domain|download"
    r"|during|enable|enabled|english|enterprise|evening|example|expired|external|failed|family|father|february|finance"
    r"|friday|friend|friends|future|general|global|google|government|helpdesk|hidden|history|however|important|information"
    r"|inside|internal|invalid|invoice|invoices|january|keyring|language|latest|letter|library|license|limited|little"
    r"|localhost|location|logged|manual|market|master|matter|memory|message|messages|minute|minutes|missing|mobile|moment"
    r"|monday|months|morning|mother|native|network|nobody|normal|nothing|notice|november|number|oauth2|october|office|online"
    r"|option|optional|options|ordered|orders|others|package|partner|passwd|password|payment|pending|people|period|person"
    r"|placeholder|platform|please|plugin|policy|possible|postgres|prefer|premium|prices|pricing|primary|privacy|private"
    r"|problem|product|production|products|profile|program|project|prompt|provider|public|purchase|question|questions"
    r"|readonly|reason|received|record|redacted|reference|refund|refunds|region|release|remote|renewal|replace|report"
    r"|reports|request|require|required|response|result|results|return|returns|saturday|school|search|second|secondary"
    r"|secret|secrets|section|security|selected|sender|september|server|service|session|settings|shipping|should|signed"
    r"|simple|single|social|something|source|special|staging|standard|started|static|status|storage|street|string|strong"
    r"|student|subject|subscription|success|summary|summer|sunday|support|system|testing|thanks|thursday|ticket|tickets"
    r"|together|tomorrow|transfer|tuesday|twenty|unknown|unlimited|update|upgrade|upload|username|verify|verify-full|version"
    r"|visitor|warehouse|warning|website|wednesday|welcome|window|windows|winter|within|without|worker|working|written"
    r"|yellow|yesterday",
    re.IGNORECASE,
)
