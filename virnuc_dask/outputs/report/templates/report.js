"use strict";
for (const plot of document.querySelectorAll("[data-scatter]")) {
  const area = plot.querySelector("svg"), ring = plot.querySelector(".ring");
  const slider = plot.querySelector("input"), told = plot.querySelector("output");
  const dots = [...plot.querySelectorAll(".dots circle")];
  const places = dots.map(dot => ["cx", "cy"].map(name => parseFloat(dot.getAttribute(name)) / 100));
  const show = index => {
    const dot = dots[index];
    for (const name of ["cx", "cy"]) ring.setAttribute(name, dot.getAttribute(name));
    ring.removeAttribute("visibility");
    slider.value = index;
    told.textContent = dot.textContent;
    slider.setAttribute("aria-valuetext", dot.textContent);
  };
  const nearest = event => {
    const box = area.getBoundingClientRect();
    let found = -1, least = 400;  // a square of 20 pixels
    places.forEach(([x, y], index) => {
      const away = (box.left + x * box.width - event.clientX) ** 2
        + (box.top + y * box.height - event.clientY) ** 2;
      if (away <= least) [found, least] = [index, away];
    });
    if (found >= 0) show(found);
  };
  area.addEventListener("pointermove", nearest);
  area.addEventListener("pointerdown", nearest);
  slider.addEventListener("input", () => show(slider.value));
  slider.addEventListener("focus", () => show(slider.value));
  plot.querySelector(".step").hidden = false;
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.printed")) part.open = true;
});
