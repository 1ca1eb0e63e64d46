"""The meaning of the program's terms: fields, the words of plans and results, exit statuses.

The texts behind ``mmp explain``, beside the errors (``error_catalogue``), the problems of files
(``problem_catalogue``) and OKX's codes (``okx.codes``). Tests check that every code and word is here.
"""

from __future__ import annotations

from reconciler.core.problems import Explanation
from reconciler.core.reply import ReplyClass
from reconciler.errors import Exit

_OVERRIDE = "If intended: run the command that mmp plan prints ({}:FAMILY), or change the policy."

FIELDS: dict[str, Explanation] = {
    "timeInterval": Explanation(
        "The monitoring window",
        "Fills are counted over this time. Milliseconds (5000), or a number and a unit (500ms, 5s, 2m, "
        "1h). disabled (0 at OKX) switches the family's protection off. Longer is tighter.",
        "0 means no protection: write disabled if that is meant.",
    ),
    "frozenInterval": Explanation(
        "The freeze",
        "How long quotes stay frozen after the limit is hit. Milliseconds, or a number and a "
        "unit. until-reset (0 at OKX) means until a manual reset (mmp reset). Longer is tighter.",
        "0 is the longest freeze: write until-reset if that is meant.",
    ),
    "qtyLimit": Explanation(
        "The quantity limit",
        "Contracts filled within the window that freeze the quotes. A plain decimal greater than "
        "0, at most 20 digits. Less is tighter.",
    ),
    "version": Explanation("The version of the file's format", "1; a number without quotes."),
    "account": Explanation(
        "Your own name for the account",
        "Lower-case letters, digits, dots, dashes and underscores. Used in the state. Default: main.",
    ),
    "environment": Explanation("OKX's environment", "live or demo. The key must belong to the same one."),
    "expect": Explanation(
        "The account that is expected",
        'With expect: {uid: "446556540"} mmp writes to no other User ID. The digits are in quotes.',
    ),
    "uid": Explanation("A User ID of OKX", "Digits in quotes. mmp doctor shows that of the key."),
    "credentials": Explanation(
        "Where mmp finds the keys",
        "credentials: {prefix: OKX_} means OKX_API_KEY, OKX_SECRET_KEY and OKX_PASSPHRASE in the "
        "environment, each also as …_FILE. The keys are never in the file.",
    ),
    "prefix": Explanation(
        "The prefix of the key variables", "Capitals, digits and underscores, ending with an underscore."
    ),
    "defaults": Explanation(
        "Values for all families",
        "Any of the three fields. A family's own value wins. There are no built-in values.",
    ),
    "families": Explanation(
        "The managed families",
        "By OKX's name, such as BTC-USD or SOL-USD_UM. A family that is not listed is unmanaged: "
        "never written, never disabled. If you remove a family, its setting at OKX stays.",
    ),
}
"""The keys of mmp.yaml."""

WORDS: dict[str, Explanation] = {
    # Actions
    "set": Explanation("To be set", "One request will set live to the desired setting."),
    "adopt": Explanation("To be adopted", "Live is already as desired: it is recorded, without a request."),
    "hold": Explanation(
        "Held", "It differs from the file, but is not written now. The plan shows the reason."
    ),
    # Reasons
    "new": Explanation("New", "No setting of the family was applied, and live has none."),
    "changed": Explanation("Changed", "The file has other values than were last applied."),
    "drifted": Explanation(
        "Drifted",
        "Live differs from what the file says and mmp applied: it was changed outside mmp.",
        "apply restores it. run restores what became looser; see --drift.",
    ),
    "uncertain": Explanation(
        "Uncertain",
        "An earlier request has no definite answer, so the setting in force is not known. It "
        "never counts as equal to desired.",
        "Nothing to do: mmp sends it again, or reads it when the request can no longer arrive. "
        "mmp status shows when.",
    ),
    # Directions
    "enable": Explanation("Enable", "Protection is switched on."),
    "tighten": Explanation("Tighten", "At least one field protects more, none less."),
    "mixed": Explanation("Mixed", "One field protects more and another less."),
    "loosen": Explanation("Loosen", "At least one field protects less, none more."),
    "disable": Explanation(
        "Disable", "Protection is switched off (timeInterval 0). The policy or an override must allow it."
    ),
    # Why a family is held
    "frozen": Explanation(
        "Frozen",
        "The exchange froze the family's quotes. The family is not written until the freeze ends, "
        "because the effect of a write on a freeze is not documented.",
        "Find out why. If the freeze lasts until a reset: mmp reset FAMILY.",
    ),
    "paused": Explanation(
        "Paused",
        "A person paused the family, or mmp did because another writer keeps changing it.",
        "mmp resume --family FAMILY ends it.",
    ),
    "policy": Explanation(
        "Refused by the policy",
        "A rule of mmp-policy.yaml refuses the change; rule, value and limit are shown. Or the policy is "
        "missing or cannot be read: until it is back, changes that loosen or disable are held.",
        "If the change is intended: run the command that mmp plan prints with the refusal, with a reason.",
    ),
    "guard": Explanation(
        "Held by the guard",
        "The change would switch the family's protection off, or as good as off (a timeInterval below "
        "100 ms, a factor of 1000 or more), and no policy allows it.",
        "If the change is intended: run the command that mmp plan prints with the refusal (--allow "
        "disable:FAMILY).",
    ),
    "drift-policy": Explanation(
        "Drift that is only reported",
        "The family became tighter outside mmp, or run has --drift warn: reported, not changed.",
        "mmp apply restores it.",
    ),
    "unreadable": Explanation(
        "Not readable",
        "The live setting of the family could not be read reliably, so the family is not written.",
        "Run mmp plan to read again, and look at the family at OKX. Ask OKX support about the row.",
    ),
    "stale": Explanation(
        "Stale", "The change is not the reviewed one, so it was skipped.", "Make a new plan and review it."
    ),
    # Outcomes
    "applied": Explanation("Applied", "The exchange acknowledged exactly what was sent."),
    "adopted": Explanation("Adopted", "A read showed the setting in force; no request was needed."),
    "rejected": Explanation(
        "Rejected",
        "OKX rejected this setting; see its code. run tries it again every 10 minutes, later "
        "every hour, while live is looser. Another value is tried at once.",
        "Run mmp explain CODE, and correct the family in the file.",
    ),
    "unknown": Explanation(
        "Unknown",
        "A request has no definite answer, so the setting in force is not known.",
        "Run it again: a read or an acknowledged request settles it.",
    ),
    "held": Explanation("Held", "Not written: frozen, paused, refused, or only reported."),
    "skipped": Explanation("Skipped", "The command ended before it reached the family.", "Run it again."),
    # States, and kinds of refusal
    "in-sync": Explanation("In sync", "As desired, as far as recorded."),
    "pending": Explanation("Pending", "To be applied or recorded; mmp status shows when."),
    "bounds": Explanation("Bounds", "A desired value is outside the policy's bounds for the family."),
    "protected": Explanation(
        "Protected",
        "In the policy: the family may not be removed, disabled or paused. Of an account: every family is "
        "as the file says.",
    ),
    # Rules of the policy, by their names in refusals
    **{
        f"bounds.{field}.{limit}": Explanation(
            "A limit of the policy",
            f"{field} of a family is {words} bounds.{field}.{limit} of mmp-policy.yaml. A change back "
            "towards the limit passes.",
            _OVERRIDE.format("bounds"),
        )
        for field in ("timeInterval", "frozenInterval", "qtyLimit")
        for limit, words in (("min", "less than"), ("max", "more than"))
    },
    **{
        rule: Explanation(
            "A word that the policy denies", f"{word} is not allowed.", _OVERRIDE.format("bounds")
        )
        for rule, word in (
            ("bounds.timeInterval.disabled", "disabled, which switches the family's protection off,"),
            ("bounds.frozenInterval.until-reset", "until-reset, a freeze that only a manual reset ends,"),
        )
    },
    **{
        f"bounds.exposure.{figure}.max": Explanation(
            "A limit of the exposure",
            f"A family may trade more contracts {words} than bounds.exposure.{figure}.max of "
            "mmp-policy.yaml. A change that lowers the figure passes.",
            _OVERRIDE.format("bounds"),
        )
        for figure, words in (
            ("perTrip", "before it trips (qtyLimit)"),
            ("perSecond", "per second within the window (qtyLimit / timeInterval)"),
            ("perMinute", "per minute at worst (it trips again after each freeze)"),
        )
    },
    "floor.timeInterval": Explanation(
        "As good as disabled",
        "The change sets a timeInterval that is shorter than floor.timeInterval of "
        "mmp-policy.yaml and shorter than before. So short a window protects very little.",
        _OVERRIDE.format("disable"),
    ),
    "floor.factor": Explanation(
        "As good as disabled",
        "The factor of the change is floor.factor of mmp-policy.yaml or more.",
        _OVERRIDE.format("disable"),
    ),
    "loosening.maxFactor": Explanation(
        "Too far at once",
        "The factor of the change is larger than the limit. The factor is the worst of four "
        "ratios: contracts per trip, per second and per minute at worst (after/before), and "
        "frozenInterval (before/after). A change away from until-reset is unlimited.",
        _OVERRIDE.format("loosen (or mixed, disable)"),
    ),
    "loosening.maxFamilies": Explanation(
        "Too many at once",
        "The file loosens or disables more families than the limit. Paused families, and families "
        "that --family leaves out, count too.",
        _OVERRIDE.format("loosen (or mixed, disable)"),
    ),
    "loosening.maxShare": Explanation(
        "Too large a share at once",
        "The file loosens or disables a larger share of the families than the limit. The share is of the "
        "families that were in force for 24 hours on record. In the first 24 hours of a state no share is "
        "proven. mmp diff has no record: it counts the families that the older file enables.",
        _OVERRIDE.format("loosen (or mixed, disable)"),
    ),
    "loosening.per": Explanation(
        "Too far in several steps",
        "loosening.maxFactor also applies from the setting that was accepted at the start of this "
        "time. Several changes within it may not loosen more than one change may. A change that "
        "is no looser than that setting passes.",
        "Wait until the steps are older than this time. " + _OVERRIDE.format("loosen (or mixed)"),
    ),
    "loosening.unknown": Explanation(
        "Nothing is known of the family",
        "Live was not read (--no-live) and there is no record. So it is not known whether the "
        "change loosens more than loosening.maxFactor allows.",
        "Run the command without --no-live. If the change is intended: --allow loosen:FAMILY, or for mmp "
        "run loosening: {unknown: allow} in the policy.",
    ),
    # Words of the file
    "disabled": Explanation("Disabled", "timeInterval: disabled (0 at OKX): no protection for the family."),
    "until-reset": Explanation(
        "Until reset",
        "frozenInterval: until-reset (0 at OKX): quotes stay frozen until a manual reset.",
        "mmp reset FAMILY ends such a freeze.",
    ),
    "unmanaged": Explanation("Unmanaged", "Live at the exchange and not in the file: never written."),
    # Settings, and the protection of an account
    "desired": Explanation("Desired", "What the file says now."),
    "accepted": Explanation(
        "Accepted",
        "The desired setting that last passed the policy or the guard. A change is measured from it.",
    ),
    "live": Explanation("Live", "What the last read of the exchange showed."),
    "drift": Explanation("Drift", "Live differs from the accepted setting."),
    "exposure": Explanation(
        "Exposure",
        "How many contracts a setting lets trade: before MMP trips, per second within the window, and per "
        "minute at worst. A disabled family has unlimited exposure.",
    ),
    "factor": Explanation(
        "Factor",
        "How much riskier a change is: the worst of four ratios, contracts per trip, per second and per "
        "minute (after/before), and frozenInterval (before/after). At most 1: no risk is raised.",
    ),
    "exposed": Explanation(
        "Exposed",
        "At least one family has less protection than the file says.",
        "Run mmp status to see which family, and why.",
    ),
    "tighter": Explanation("Tighter", "Families that differ have more protection than the file says."),
    "contested": Explanation(
        "Contested",
        "Another writer changed the family again after mmp restored it 3 times within 10 minutes. mmp "
        "paused the family.",
        "Find the other writer. Then run mmp resume --family FAMILY, or set another value in the file.",
    ),
    "standby": Explanation(
        "Standby",
        "Another mmp run on the same state file controls the account. This process only reads.",
        "Stop one of the two processes.",
    ),
}
"""The words of plans, results and statuses."""

REPLY_CLASSES: dict[ReplyClass, str] = {
    ReplyClass.ACCEPTED: "The request was accepted.",
    ReplyClass.RATE_LIMITED: "Not applied. mmp waits a full window, then spaces requests evenly.",
    ReplyClass.BUSY: "It is not known whether it took effect. Each further try uses a slot of the rate.",
    ReplyClass.AMBIGUOUS: "It is not known whether it took effect. A request to set counts as sent.",
    ReplyClass.CLOCK: "Not applied: the timestamp was rejected.",
    ReplyClass.WRONG_SETTINGS: "Not applied: the setting is rejected. Other families are written.",
    ReplyClass.NOT_OPEN: "Not applied. The family is tried again at long intervals.",
    ReplyClass.ACCOUNT: "Not applied. Writing stops until account or key are corrected.",
    ReplyClass.ENVIRONMENT: "Not applied. Writing stops: live and demo were mixed up.",
    ReplyClass.UNAVAILABLE: "Not applied: the account or the service is not available for a longer time.",
    ReplyClass.OUR_BUG: "Not applied: the request was malformed. Writing stops.",
    ReplyClass.NO_ANSWER: "No answer from OKX. A request to set counts as sent.",
    ReplyClass.NOT_SENT: "Nothing was sent.",
}
"""What a reply of each class proves."""

_AGAIN = "Run it again."

STATUSES: dict[Exit, Explanation] = {
    Exit.DONE: Explanation(
        "Done", "Everything was done. Also when there are changes and no flag asked for status 2."
    ),
    Exit.FAILED: Explanation(
        "Runtime failure",
        "The exchange does not answer, a setting was rejected, the state is damaged, or time ran out.",
        "Read the message, then run it again.",
    ),
    Exit.CHANGES: Explanation(
        "Changes present",
        "With plan --detailed-exitcode and diff --exit-code only: something would be sent, is held or "
        "refused, an adoption changes what is accepted, or an account has another name. A plan that only "
        "records what was accepted is 0.",
        "Review the plan.",
    ),
    Exit.REFUSED: Explanation(
        "Refused",
        "The policy, the guard or --fail-on refused. apply sent nothing at all. validate: the policy "
        "refuses a value of the file. pause: a family is protected.",
        "The message names the rule, the limit and, for apply, the --allow that overrides it.",
    ),
    Exit.INVALID: Explanation(
        "Invalid input",
        "Settings, policy, plan file, published status or git revision is invalid, or init or import "
        "would overwrite a file. Also apply where the policy file is missing.",
        "The message names the place; mmp validate lists every one in settings and policy.",
    ),
    Exit.STALE: Explanation(
        "The plan is stale",
        "The plan is not the one that was reviewed: another digest; a plan file that has expired or is of "
        "another account, environment, host or config; everything that remains of it has changed; or a "
        "published status that is too old. Nothing was sent.",
        "Make a new plan and review it.",
    ),
    Exit.PARTLY: Explanation(
        "Partly",
        "At least one family was settled, and at least one was not.",
        "Look at the results, then run it again or make a new plan.",
    ),
    Exit.LOCKED: Explanation(
        "Locked",
        "Another process has locked the state; the message names it.",
        "Wait, or give a longer --lock-timeout.",
    ),
    Exit.ACCOUNT: Explanation(
        "Account, key or environment",
        "Account, key or environment is not accepted; writing was stopped.",
        "The message says what to correct.",
    ),
    Exit.HELD: Explanation(
        "Nothing done",
        "Everything that differs is held, because it is frozen or paused.",
        "Wait, or use mmp reset or mmp resume.",
    ),
    Exit.USAGE: Explanation(
        "Usage",
        "The command line is invalid. A mistyped flag is never status 2.",
        "See mmp COMMAND --help.",
    ),
    Exit.HANGUP: Explanation(
        "Hung up",
        "SIGHUP, as when the terminal is gone. apply settled the request in flight and wrote its results.",
        _AGAIN,
    ),
    Exit.INTERRUPTED: Explanation("Interrupted", "SIGINT. apply settled the request in flight.", _AGAIN),
    Exit.TERMINATED: Explanation("Terminated", "SIGTERM. apply settled the request in flight.", _AGAIN),
}
"""Every exit status."""
