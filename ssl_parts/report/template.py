"""The page: one file, no network, no script. Kept as a string so that it travels with the package
like any module.
"""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #5b6570; --line: #d9dee3; --card: #f6f7f9;
  --good: #1d7f55; --look: #b3541e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e9ec; --soft: #a2abb5; --line: #343a41;
  --card: #1d2125; --good: #55c594; --look: #f0a067; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem) 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 75ch; overflow-wrap: anywhere; }
.soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
nav { font-size: .9rem; margin-top: .6rem; } nav a { margin-right: .9rem; white-space: nowrap; } a { color: inherit; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; } td { white-space: nowrap; }
td.text, th.text { text-align: left; white-space: normal; min-width: 7rem; }
tr.ours td { font-weight: 650; }
td small { display: block; color: var(--soft); font-weight: 400; white-space: nowrap; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 1rem; }
.grid { margin-top: .8rem; align-items: start; }
figure { margin: 0; background: var(--card); border-radius: 8px; padding: .75rem; min-width: 0; }
figure svg { width: 100%; height: auto; display: block; } figure.wide { grid-column: 1 / -1; }
.grid.broad { grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); }
figure img { display: block; width: 100%; height: auto; border-radius: 4px; }
@media (max-width: 700px) { .scroll > img.sheet { width: 1100px; max-width: none; } }
figcaption { margin-bottom: .4rem; } figcaption b { color: var(--ink); }
ul.findings { list-style: none; padding: 0; }
ul.findings li { position: relative; padding: .15rem 0 .15rem 1.6rem; }
.mark { position: absolute; left: 0; font-weight: 700; color: var(--good); } .look .mark { color: var(--look); }
.gap { border-left: 3px solid var(--line); padding-left: .7rem; color: var(--soft); }
details { margin: .6rem 0; } summary { cursor: pointer; }
pre { overflow-x: auto; background: var(--card); padding: .75rem; border-radius: 8px; font-size: .8rem; }
"""

MACROS = """
{% macro gap(text) %}<p class="gap">{{ text }}</p>{% endmacro %}

{% macro side(i, t) %}{% if i in t.text %} class="text"{% endif %}{% endmacro %}

{% macro table(t) %}
<div class="scroll"><table>
{% if t.caption %}<caption>{{ t.caption }}</caption>{% endif %}
<thead><tr>
{% for head in t.heads %}<th scope="col"{{ side(loop.index0, t) }}>{{ head }}</th>{% endfor %}
</tr></thead><tbody>
{% for row in t.rows %}<tr{% if row.ours %} class="ours"{% endif %}>
{% for cell in row.cells %}<td{{ side(loop.index0, t) }}>{{ cell.text }}
{%- if cell.small %}<small>{{ cell.small }}</small>{% endif %}</td>{% endfor %}
</tr>{% endfor %}
</tbody></table></div>
{% endmacro %}

{% macro heading(item) %}
<figcaption><b>{{ item.title }}</b>{% if item.text %} {{ item.text }}{% endif %}</figcaption>
{% endmacro %}

{% macro picture(p) %}
<figure{% if p.wide %} class="wide"{% endif %}>{{ heading(p) }}
{% if p.uri %}<div class="scroll"><img{% if p.wide %} class="sheet"{% endif %}
 src="{{ p.uri }}" width="{{ p.width }}" height="{{ p.height }}" alt="{{ p.title }}"></div>
{% else %}{{ gap(p.gap) }}{% endif %}</figure>
{% endmacro %}

{% macro section(s) %}
<section id="{{ s.anchor }}"><h2>{{ s.title }}</h2>
{% for text in s.texts %}<p class="soft">{{ text }}</p>{% endfor %}
{% if s.findings %}<ul class="findings">
{% for f in s.findings %}<li{% if not f.fine %} class="look"{% endif %}>
<span class="mark">{{ "✓" if f.fine else "!" }}</span>{{ f.text }}</li>{% endfor %}
</ul>{% endif %}
{% for t in s.tables %}{{ table(t) }}{% endfor %}
{% if s.charts or s.pictures %}<div class="grid{% if s.pictures and s.pictures[0].width > 560 %} broad{% endif %}">
{% for c in s.charts %}<figure>{{ heading(c) }}{{ c.svg | safe }}</figure>{% endfor %}
{% for p in s.pictures %}{{ picture(p) }}{% endfor %}
</div>{% endif %}
{% for text in s.gaps %}{{ gap(text) }}{% endfor %}
{% for f in s.folded %}<details><summary>{{ f.title }}</summary>
{% if f.table %}{{ table(f.table) }}{% endif %}
{% if f.text %}<pre>{{ f.text }}</pre>{% endif %}
</details>{% endfor %}
</section>
{% endmacro %}
"""

PAGE = (
    MACROS
    + """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{{ title }}</title><link rel="icon" href="data:,">
<style>{{ style | safe }}</style></head><body><main>
<h1>{{ title }}</h1>
{% for line in lead %}<p>{{ line }}</p>{% endfor %}
<nav>{% for s in sections %}<a href="#{{ s.anchor }}">{{ s.title }}</a> {% endfor %}</nav>
{% for s in sections %}{{ section(s) }}{% endfor %}
</main></body></html>
"""
)
