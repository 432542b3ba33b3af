// Sets the theme before anything is drawn: what was chosen here earlier, or else what the system asks for.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const KEY = "paceline.theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  // A private window, or a file opened from a disk, may have no storage.
  paceline.remember = (key, value) => {
    try {
      if (value === null) window.localStorage.removeItem(key);
      else window.localStorage.setItem(key, value);
    } catch { /* then it is forgotten with the page */ }
  };
  paceline.recall = (key) => {
    try {
      return window.localStorage.getItem(key);
    } catch {
      return null;
    }
  };

  const chosen = () => (["dark", "light"].includes(paceline.recall(KEY)) ? paceline.recall(KEY) : null);
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new Event("paceline-theme"));
  };

  paceline.theme = () => document.documentElement.dataset.theme;
  paceline.switchTheme = () => {
    const next = paceline.theme() === "dark" ? "light" : "dark";
    paceline.remember(KEY, next);
    apply(next);
  };
  system.addEventListener("change", () => {
    if (!chosen()) apply(system.matches ? "dark" : "light");
  });
  apply(chosen() || (system.matches ? "dark" : "light"));
})();
