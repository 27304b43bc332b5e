// Verifies the message on the standard input with mailauth: DKIM, SPF, DMARC.
// usage: verify_mailauth.js DNSHOST DNSPORT CLIENTIP HELO MAILFROM
const { authenticate } = require('mailauth');
const dns = require('dns').promises;
const [host, port, ip, helo, sender] = process.argv.slice(2);
const resolver = new dns.Resolver();
resolver.setServers([host + ':' + port]);
const chunks = [];
process.stdin.on('data', (c) => chunks.push(c)).on('end', async () => {
  const { dkim, spf, dmarc } = await authenticate(Buffer.concat(chunks), {
    ip, helo, sender, mta: 'mx.receiver.test', disableArc: true, disableBimi: true,
    resolver: (name, type) => resolver.resolve(name, type),
  });
  console.log(JSON.stringify({
    dkim: dkim.results.map((r) => ({ domain: r.signingDomain, selector: r.selector, algorithm: r.algo, pass: r.status.result === 'pass', aligned: !!r.status.aligned })),
    spf: spf.status.result, spf_domain: spf.domain,
    dmarc: dmarc.status.result, dmarc_dkim: !!(dmarc.alignment && dmarc.alignment.dkim.result), dmarc_spf: !!(dmarc.alignment && dmarc.alignment.spf.result),
  }));
});
