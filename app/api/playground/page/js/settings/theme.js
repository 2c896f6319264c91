import { byId } from "../browser/dom.js";
import { save } from "../browser/storage.js";

const system = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : system.matches;
}

/** The switch. Until it is used the system's wish counts (theme-boot.js reads what was chosen earlier). */
export function startTheme() {
  const toggle = byId("theme");
  const show = () => toggle.setAttribute("aria-pressed", String(isDark()));
  toggle.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    save(localStorage, "theme", next);
    show();
  });
  system.addEventListener("change", show);
  show();
}
