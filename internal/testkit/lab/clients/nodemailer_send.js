// Submits a message with nodemailer.
// usage: nodemailer_send.js starttls|tls HOST PORT CAFILE USER PASSWORD FROM TO SUBJECT
const nodemailer = require('nodemailer');
const fs = require('fs');
const [how, host, port, ca, user, pass, from, to, subject] = process.argv.slice(2);
nodemailer.createTransport({
  host, port: Number(port), secure: how === 'tls', requireTLS: true,
  auth: { user, pass }, tls: { ca: fs.readFileSync(ca) },
}).sendMail({
  from, to, subject,
  text: 'Grüße, your ticket was answered.', html: '<p>Grüße, your ticket was <b>answered</b>.</p>',
  attachments: [{ filename: 'a.txt', content: 'attached\n' }],
}).then((info) => console.log(info.response), (err) => { console.error(err); process.exit(1); });
