"use strict";
(function () {
  var every = function (selector) { return Array.prototype.slice.call(document.querySelectorAll(selector)); };
  var closed = [];
  addEventListener("beforeprint", function () {
    closed = every("details:not([open])");
    closed.forEach(function (one) { one.open = true; });
  });
  addEventListener("afterprint", function () {
    closed.forEach(function (one) { one.open = false; });
  });
  var controls = document.getElementById("controls");
  if (!controls) { return; }
  var text = document.getElementById("filter");
  var state = document.getElementById("state");
  var status = document.getElementById("shown");
  var threads = every("#threads .thread");
  var contents = threads.map(function (one) { return one.textContent.toLowerCase(); });
  var apply = function () {
    var wanted = text.value.toLowerCase();
    var count = 0;
    threads.forEach(function (one, i) {
      var shown = contents[i].indexOf(wanted) >= 0 &&
        (state.value === "" || one.getAttribute("data-state") === state.value);
      one.hidden = !shown;
      count += shown ? Number(one.getAttribute("data-count")) : 0;
    });
    status.textContent = count + (count === 1 ? " thread shown" : " threads shown");
  };
  text.addEventListener("input", apply);
  state.addEventListener("change", apply);
  document.getElementById("open").addEventListener("click", function () {
    threads.forEach(function (one) { one.open = !one.hidden; });
  });
  document.getElementById("close").addEventListener("click", function () {
    threads.forEach(function (one) { one.open = false; });
  });
  controls.hidden = false;
  apply();
})();
