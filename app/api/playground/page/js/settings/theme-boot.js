// A classic script, so that it runs before the first paint: a module would let the other theme flash.
try {
  const chosen = JSON.parse(localStorage.getItem("playground.theme"));
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // Without a readable storage the system's theme counts.
}
