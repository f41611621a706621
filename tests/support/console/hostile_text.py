"""Texts that run a script if a page does not escape them, packages that contain them, and what a browser reports."""

from __future__ import annotations

import itertools

from marshmallow import ValidationError

from chalk_flask.oneroster.fields.composites import RefField, RefListField
from chalk_flask.oneroster.fields.scalars import EnumField, GuidField, OneRosterField, is_valid_id_cell
from chalk_flask.oneroster.resource_type import Column
from chalk_flask.oneroster.schemas import FILES
from tests.support.packages import PackageBuilder

__all__ = ["CORPUS", "FIND_EFFECTS", "WATCH_EFFECTS", "hostile_package", "invalid_package"]

OTHER_HOST = "https://evil.invalid"

CORPUS = (
    "<script>xss()</script>",
    "<ScRiPt data-xss>xss()</sCrIpT>",
    f"<script src={OTHER_HOST}/x.js></script>",
    "<script/x>xss()</script>",
    "<<script>xss();//<</script>",
    "<scr<script>ipt>xss()</scr</script>ipt>",
    "</script><script>xss()</script>",
    "</title><script>xss()</script>",
    "</title></textarea></style></noscript><svg onload=xss()>",
    "</textarea><img src=x onerror=xss()>",
    "</select></option><img src=x onerror=xss()>",
    "</pre></code></td></tr></table><img src=x onerror=xss()>",
    "</time></span></summary></details><b data-xss>x</b>",
    "<!--<img src='--><img src=x onerror=xss()>'>",
    "--><img src=x onerror=xss()><!--",
    "--!><svg onload=xss()>",
    "<![CDATA[<img src=x onerror=xss()>]]>",
    "<?xml version='1.0'?><img src=x onerror=xss()>",
    "<img src=x onerror=xss()>",
    '"><img src=x onerror=xss()>',
    "'><img src=x onerror=xss()>",
    "`><img src=x onerror=xss()>",
    '" onmouseover="xss()" data-xss="',
    "' onmouseover='xss()' data-xss='",
    '" autofocus tabindex=1 onfocus=xss() data-xss="',
    "' autofocus tabindex=1 onfocus='xss()' data-xss='",
    " onfocus=xss() autofocus data-xss=",
    '" style="position:fixed;inset:0" data-xss="',
    '" href="javascript:xss()" data-xss="',
    'x" formaction="javascript:xss()" data-xss=\'',
    "<svg onload=xss()>",
    "<svg/onload=xss()>",
    "<svg><script>xss()</script></svg>",
    "<svg><script href=data:,xss() /></svg>",
    "<svg><animate onbegin=xss() attributeName=x dur=1s>",
    '<svg><a xlink:href="javascript:xss()"><text y=20>x</text></a></svg>',
    '<svg><use href="data:image/svg+xml,<svg id=x onload=xss()></svg>#x"></svg>',
    "<math><mtext><table><mglyph><style><img src=x onerror=xss()>",
    "<math><a xlink:href=javascript:xss()>x",
    '<noscript><p title="</noscript><img src=x onerror=xss()>">',
    "<form><math><mtext></form><form><mglyph><svg><mtext><style><path id='</style><img src=x onerror=xss()>'>",
    "<listing>&lt;img src=x onerror=xss()&gt;</listing>",
    "<body onload=xss()>",
    "<details open ontoggle=xss()>",
    "<input autofocus onfocus=xss()>",
    "<select autofocus onfocus=xss()>",
    "<video><source onerror=xss()>",
    "<audio src=x onerror=xss()>",
    "<iframe srcdoc='<script>parent.xss()</script>'></iframe>",
    "<iframe src=javascript:parent.xss()></iframe>",
    "<object data=javascript:xss()></object>",
    "<embed src=javascript:xss()>",
    f"<base href={OTHER_HOST}/>",
    f"<meta http-equiv=refresh content='0;url={OTHER_HOST}/'>",
    "<meta http-equiv=refresh content='0;url=javascript:xss()'>",
    f"<link rel=stylesheet href={OTHER_HOST}/x.css>",
    f"<style>@import '{OTHER_HOST}/x.css'; body {{display: none}}</style>",
    f"</style><style>*{{background:url({OTHER_HOST}/x)}}",
    f"<p style=\"background:url('{OTHER_HOST}/x')\" data-xss>x</p>",
    f"<img src={OTHER_HOST}/x.png>",
    f"<form action={OTHER_HOST}/ data-xss><button>Sign in</button></form>",
    f"<a href={OTHER_HOST}/ data-xss>x</a>",
    "javascript:xss()",
    "JaVaScRiPt:xss()//",
    "java\tscript:xss()",
    " javascript:xss()",
    "&#106;avascript&colon;xss()",
    "data:text/html,<script>xss()</script>",
    "data:text/html;base64,PHNjcmlwdD54c3MoKTwvc2NyaXB0Pg==",
    "vbscript:xss()",
    f"//{OTHER_HOST.partition('//')[2]}/x",
    "{{ 8191 * 8191 }}",
    "${8191 * 8191}",
    "#{8191 * 8191}",
    "<%= 8191 * 8191 %>",
    "{% raw %}{{ 8191 * 8191 }}",
    "{{ config.items() }}{{ self.__init__.__globals__ }}",
    "{{constructor.constructor('xss()')()}}",
    "&lt;img src=x onerror=xss()&gt;",
    "&#60;img src=x onerror=xss()&#62;",
    "&lt&quot&apos&NewLine;&Tab;&amp;amp;",
    "%3Cimg%20src%3Dx%20onerror%3Dxss()%3E",
    r"\u003cimg src=x onerror=xss()\u003e",
    r"\";xss();//",
    "\\'};xss();//",
    "];xss();//\"}'",
    "a\u2028xss()\u2029<img src=x onerror=xss()>",
    "＜img src=x onerror=xss()＞",
    "<img\u00a0src=x\u00a0onerror=xss()>",
    "\u202e<img src=x onerror=xss()>\u202c",
    "\u2066\u202egnp.elif\u2069",
    "z\u200be\u200cr\u200do\u2060w\ufeffidth",
    "مدرسة الشمال الابتدائية للبنات والبنين في مدينة طويلة الاسم",
    "\u0627\u0308\u0308\u0308Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e",
    "\U0001f9d1\u200d\U0001f91d\u200d\U0001f9d1\U0001f1ee\U0001f1f3",
    "W" * 180,
    "\ufdfd" * 60,
    "-".join(["long"] * 38),
)
"""Hostile texts. A part of one that becomes an element or runs calls `xss`, or has the attribute `data-xss`."""

WATCH_EFFECTS = """
window.effects = [];
for (const name of ["xss", "alert", "confirm", "prompt"]) window[name] = () => window.effects.push("a script ran");
addEventListener("securitypolicyviolation", (event) => window.effects.push(
  `violation of ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""
"""Script that runs in each page before its own, and collects what a hostile text causes."""

FIND_EFFECTS = """() => {
  const found = [...window.effects];
  const all = [...document.querySelectorAll("*")];
  const forbidden = "[data-xss], [style], iframe, object, embed, base, math, style, img, video, audio, [http-equiv]";
  for (const each of document.querySelectorAll(forbidden)) found.push(`element ${each.outerHTML.slice(0, 100)}`);
  for (const each of all) for (const {name} of each.attributes)
    if (name.startsWith("on")) found.push(`attribute ${name} of ${each.outerHTML.slice(0, 100)}`);
  for (const each of all) for (const name of ["href", "src", "action", "formaction"])
    if (each.hasAttribute(name) && new URL(each.getAttribute(name), location).origin !== location.origin)
      found.push(`${name} ${each.getAttribute(name)}`);
  if (document.documentElement.innerText.includes("67092481")) found.push("a template was rendered");
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth + 1) found.push("wider than a phone");
  return found;
}"""
"""Function of a page that returns the effects of hostile texts, and whether the page scrolls sideways."""

METADATA_COLUMNS = 8


def hostile_package(shift: int = 0) -> PackageBuilder:
    """Return a valid package with a row for each text in each file, and a text in each cell that accepts one.

    Ids are texts too, where their format allows it. Another `shift` gives the same rows with other texts.
    """
    package = PackageBuilder()
    for name, resource_type in FILES.items():
        template = dict(package.row(name, "pupil-2" if name == "users" else ""))
        package.extra[name] = [f"metadata.note{number}" for number in range(METADATA_COLUMNS)]
        for index in range(len(CORPUS)):
            texts = itertools.islice(itertools.cycle(CORPUS), index + shift + 1, None, 7)
            cells = {
                column.header: text
                for column, text in zip(resource_type.columns, texts, strict=False)
                if _accepts(column, text)
            }
            notes = {
                f"metadata.note{n}": CORPUS[(index + shift + 13 * n) % len(CORPUS)] for n in range(METADATA_COLUMNS)
            }
            package.rows[name].append(template | cells | notes | {"sourcedId": id_of(index)})
    return package


def id_of(index: int) -> str:
    """Return a text as an id, or another id if no id may look like that."""
    return CORPUS[index] if is_valid_id_cell(CORPUS[index]) else f"x-{index}"


def invalid_package() -> PackageBuilder:
    """Return a package with a text in each cell that accepts none: ids, references, dates, numbers and tokens."""
    package = PackageBuilder()
    texts = itertools.cycle(CORPUS)
    for name, resource_type in FILES.items():
        template = dict(package.row(name))
        for column in resource_type.columns:
            text = next(texts)
            if column.field is not None and not _accepts(column, text):
                package.rows[name].append(template | {"sourcedId": f"{name}-{column.name}", column.header: text})
    return package


def _accepts(column: Column, text: str) -> bool:
    """Return True if a cell of the column may contain the text."""
    field: OneRosterField | None = column.field
    if field is None or isinstance(field, (RefField, RefListField, GuidField, EnumField)):
        return False
    try:
        return bool(field.from_cell(text))
    except ValidationError:
        return False
