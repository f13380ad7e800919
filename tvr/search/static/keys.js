// Keys for the results. The page works without them, only with more pressing of Tab.
"use strict";

const box = document.querySelector("#query");
const names = [...document.querySelectorAll(".hits .name")];

function edit() {
  box.focus();
  box.select();
}

// Each says whether the key had an effect; if not, it does what it does everywhere
function moveTo(place) {
  if (place < 0 && names.length > 0) {
    edit();
  } else if (place >= 0 && place < names.length) {
    names[place].closest(".hit").scrollIntoView({ block: "nearest" });
    names[place].focus({ preventScroll: true });
  } else {
    return false;
  }
  return true;
}

function act(key) {
  const place = names.indexOf(document.activeElement);
  switch (key) {
    case "/":
    case "Escape":
      edit();
      return true;
    case "ArrowDown":
    case "j":
      return moveTo(place + 1);
    case "ArrowUp":
    case "k":
      return moveTo(place - 1);
    default:
      return false;
  }
}

// In a field letters are text and arrows change numbers: few keys lead out of one
function belongsToField(event) {
  const field = event.target.closest("input, button, summary");
  return field !== null && event.key !== (field === box ? "ArrowDown" : "Escape");
}

document.addEventListener("keydown", (event) => {
  const modified = event.ctrlKey || event.metaKey || event.altKey;
  if (!modified && !belongsToField(event) && act(event.key)) {
    event.preventDefault();
  }
});
