// Runs beside the style sheet and is a fraction of it, so that nobody who chose a theme sees the other one flash by.
const theme = localStorage.getItem("sampan.theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
