"use strict";
// Filters rows, opens what links lead to, and shows a cell's reason. The page is
// whole without it. What is chosen stands in the address: #show=differ&q=close
(() => {
  const byId = (id) => document.getElementById(id);
  const form = byId("filters");
  const show = byId("show");
  const query = byId("query");
  const blocks = [...document.querySelectorAll("#matrix .block")];
  const rows = [...document.querySelectorAll("#matrix tbody tr")].map((row) => ({
    row,
    block: row.closest(".block"),
    text: row.textContent.toLowerCase(),
    failed: (row.dataset.failed || "").split(" "),
  }));
  const names = [...document.querySelectorAll("#matrix .names b")].map(
    (name) => name.textContent,
  );
  // A choice, and the adapter that it is about; that may be module:Class.
  const divide = (choice) => {
    const [what, ...name] = choice.split(":");
    return [what, name.join(":")];
  };
  // How the groups were before anything was chosen.
  let before = null;

  const isShown = ({ row, failed }, choice) => {
    const [what, name] = divide(choice);
    if (what === "differ") return "differs" in row.dataset;
    if (what === "decision") return "decision" in row.dataset;
    if (!what.startsWith("failed")) return true;
    const strength = what.slice("failed-".length);
    return (
      failed.includes(String(names.indexOf(name))) &&
      (!strength || row.dataset.weight === strength)
    );
  };

  const filter = () => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const active = show.value !== "all" || words.length > 0;
    const found = new Map(blocks.map((block) => [block, 0]));
    for (const one of rows) {
      const fits =
        isShown(one, show.value) && words.every((word) => one.text.includes(word));
      one.row.hidden = !fits;
      if (fits) found.set(one.block, found.get(one.block) + 1);
    }
    if (active && !before) before = blocks.map((block) => block.open);
    blocks.forEach((block, at) => {
      const count = found.get(block);
      const total = block.querySelectorAll("tbody tr").length;
      block.hidden = count === 0;
      block.querySelector(".count").textContent = active
        ? `${count} of ${total}`
        : String(total);
      if (active) block.open = true;
      else if (before) block.open = before[at];
    });
    if (!active) before = null;
    const count = [...found.values()].reduce((sum, one) => sum + one, 0);
    byId("nothing").hidden = count > 0;
    byId("shown").textContent = active ? `${count} of ${rows.length} clauses` : "";
  };

  const remember = () => {
    const state = new URLSearchParams();
    if (show.value !== "all") state.set("show", show.value);
    if (query.value) state.set("q", query.value);
    const hash = String(state).replaceAll("%3A", ":");
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
  };

  // Opens whatever an element is folded into.
  const reveal = (element) => {
    for (let at = element; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") at.open = true;
    }
  };

  const choose = (state) => {
    show.value = state.get("show") || "all";
    // A choice that is not in the list, such as one strength only.
    if (show.selectedIndex < 0) {
      const choice = state.get("show");
      const [what, name] = divide(choice);
      const strength = what.slice("failed-".length).toUpperCase();
      const known = /^failed-(must|should|may)$/.test(what) && name;
      if (known) {
        const text = `${strength}s failed by ${name}`;
        show.add(new Option(text, choice));
      }
      show.value = known ? choice : "all";
    }
    query.value = state.get("q") || "";
    filter();
  };

  const follow = () => {
    const hash = location.hash.slice(1);
    if (/^(show|q)=/.test(hash)) {
      choose(new URLSearchParams(hash));
      form.scrollIntoView();
      return;
    }
    const target = byId(decodeURIComponent(hash));
    if (!target) return;
    if (target.closest("[hidden]")) choose(new URLSearchParams());
    reveal(target);
    target.scrollIntoView();
  };

  // A cell opens its row's reasons and points at its own, or folds them again.
  const explain = (link) => {
    const why = byId(link.getAttribute("href").slice(1));
    const terms = [...why.querySelectorAll("dt")];
    const mine = terms.find((term) => term.dataset.at.split(" ").includes(link.dataset.at));
    why.open = !(why.open && mine.classList.contains("chosen"));
    for (const term of terms) term.classList.toggle("chosen", why.open && term === mine);
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-at]");
    if (!link) return;
    event.preventDefault();
    explain(link);
  });
  document.addEventListener("pointerover", (event) => {
    const link = event.target.closest("a[data-at]:not([title])");
    if (!link) return;
    const terms = byId(link.getAttribute("href").slice(1)).querySelectorAll("dt");
    for (const term of terms) {
      if (term.dataset.at.split(" ").includes(link.dataset.at)) {
        link.title = term.nextElementSibling.textContent;
      }
    }
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    filter();
    remember();
  });
  for (const [id, open] of [["open", true], ["fold", false]]) {
    byId(id).addEventListener("click", () => {
      for (const block of blocks) block.open = open;
    });
  }
  addEventListener("hashchange", follow);
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });

  form.hidden = false;
  follow();
})();
