// The theme: the system's, until the reader chooses one. Kept in this browser.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

export function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}

export function toggle() {
  const wanted = isDark() ? "light" : "dark";
  root.dataset.theme = wanted;
  try {
    localStorage.setItem("shoal-theme", wanted);
  } catch {
    // Not kept then; it holds until the page is left.
  }
}

export function onSystemChange(call) {
  system.addEventListener("change", call);
}
