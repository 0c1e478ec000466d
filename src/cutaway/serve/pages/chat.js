// Answers as they are written: one span for each token, its likeliest alternatives in a box that opens at it.
// Nothing here is read as HTML: texts from a model only ever become text.
(() => {
  const box = () => {
    let found = document.getElementById("alternatives");
    if (!found) {
      found = document.createElement("div");
      found.id = "alternatives";
      found.setAttribute("role", "tooltip");
      found.hidden = true;
      document.body.append(found);
    }
    return found;
  };
  const visible = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣");
  const percent = (p) => (p < 0.0005 ? "<0.1" : (100 * p).toFixed(p < 0.0995 ? 1 : 0)) + "%";

  const row = (text, p, chosen) => {
    const line = document.createElement("div");
    line.className = chosen ? "alternative chosen" : "alternative";
    const bar = document.createElement("i");
    bar.style.width = `${Math.max(1, 100 * p)}%`;
    const word = document.createElement("code");
    word.textContent = visible(text) || "∅";
    const part = document.createElement("span");
    part.textContent = percent(p);
    line.append(bar, word, part);
    return line;
  };

  const open = (token) => {
    const it = box(), told = token.told;
    if (!told) return;
    const rest = told.a.some(([text]) => text === told.k) ? told.a : [...told.a, [told.k, told.p]];
    it.replaceChildren(...rest.map(([text, p]) => row(text, p, text === told.k)));
    it.hidden = false;
    const at = token.getClientRects()[0], size = it.getBoundingClientRect();
    const below = at.bottom + size.height + 8 < innerHeight;
    it.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
    it.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - size.height - 4)}px`;
    document.querySelector(".token.open")?.classList.remove("open");
    token.classList.add("open");
  };
  const close = () => {
    box().hidden = true;
    document.querySelector(".token.open")?.classList.remove("open");
  };

  const span = (name, text) => {
    const made = document.createElement("span");
    made.className = name;
    made.textContent = text;
    return made;
  };

  const make = (told) => {
    const lines = told.t.split("\n").length - 1;
    const token = span(told.t && !lines ? "token" : "token part", told.t ? (lines ? visible(told.t) : told.t) : told.k);
    if (told.a.length) {
      token.told = told;
      const under = document.createElement("small");
      under.textContent = percent(told.p);
      token.append(under);
      token.style.setProperty("--doubt", String(1 - told.p));
    }
    // A token in a box of its own breaks no line: its line ends stand behind it, and its text alone where no boxes are.
    return lines ? [token, span("plain", told.t), span("breaks", "\n".repeat(lines))] : [token];
  };

  const near = () => innerHeight + scrollY > document.documentElement.scrollHeight - 160;
  const down = () => scrollTo({ top: document.documentElement.scrollHeight });

  window.cutaway = {
    // More tokens of an answer; whoever reads at the end of the page stays there.
    add(id, tokens) {
      const place = document.getElementById(id), follow = near();
      if (place) place.append(...tokens.flatMap(make));
      if (follow) down();
    },
    down,
  };

  const found = (event) => event.target instanceof Element && event.target.closest(".probabilities .token");
  document.addEventListener("pointerover", (event) => {
    const token = found(event);
    if (event.pointerType === "mouse") token ? open(token) : close();
  });
  document.addEventListener("click", (event) => {
    const token = found(event);
    token ? open(token) : close();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  document.addEventListener("scroll", close, { passive: true });
})();
